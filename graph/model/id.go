package model

import (
	"encoding/base64"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The kinds of global ids. Only those of [Node] types can be looked up.
const (
	KindProduct   = "Product"
	KindVariant   = "Variant"
	KindCart      = "Cart"
	KindOrder     = "Order"
	kindCartLine  = "CartLine"
	kindOrderLine = "OrderLine"
)

// Node is anything that has a global id.
type Node interface{ IsNode() }

// IsNode marks a product as a node.
func (*Product) IsNode() {}

// IsNode marks a variant as a node.
func (*Variant) IsNode() {}

// IsNode marks a cart as a node.
func (*Cart) IsNode() {}

// IsNode marks an order as a node.
func (*Order) IsNode() {}

// GlobalID returns the opaque id of a thing: its kind and its own id, as base64url without padding.
func GlobalID(kind, id string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(kind + ":" + id))
}

// ParseID returns the kind and the own id in a global id, and whether it is one at all. It is lenient about padding
// only.
func ParseID(global string) (kind, id string, ok bool) {
	const longest = 512
	if len(global) > longest {
		return "", "", false
	}
	plain, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(global, "="))
	if err != nil {
		return "", "", false
	}
	kind, id, ok = strings.Cut(string(plain), ":")
	return kind, id, ok && kind != "" && id != "" && Plain(id)
}

// IDOf returns the own id in a global id, and whether it is one of that kind.
func IDOf(kind, global string) (id string, ok bool) {
	got, id, ok := ParseID(global)
	if !ok || got != kind {
		return "", false
	}
	return id, true
}

// Plain reports whether s is text that can be an id or be searched for: valid UTF-8 without control characters.
func Plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
