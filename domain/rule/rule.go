// Package rule gives a broken rule its code.
//
// A decision that is refused says which rule forbids it: a code that programs compare, the place in the input that broke
// it, and a sentence for people. Whatever is no *Error is not the caller's to mend.
package rule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Code names a kind of rule. Its text is what clients of the API see.
type Code string

// The codes that exist.
const (
	// Invalid is input that no state could make acceptable.
	Invalid Code = "INVALID"
	// NotFound is a reference to something that does not exist.
	NotFound Code = "NOT_FOUND"
	// OutOfStock is a wish for more units than are available.
	OutOfStock Code = "OUT_OF_STOCK"
	// CartClosed is a change to a cart that has been checked out.
	CartClosed Code = "CART_CLOSED"
	// CartEmpty is a checkout of a cart without lines.
	CartEmpty Code = "CART_EMPTY"
	// TotalChanged is a checkout at another total than the buyer expected.
	TotalChanged Code = "TOTAL_CHANGED"
	// NotAllowed is a step that the present state does not permit.
	NotAllowed Code = "NOT_ALLOWED"
	// Conflict is a claim on something that another holds already.
	Conflict Code = "CONFLICT"
)

// Error is one broken rule. It is never changed once made: At returns another.
type Error struct {
	Code Code
	// Field is the path to the input that broke the rule, such as lines, 0, sku; empty where no single input did.
	Field []string
	// Message says to a person what is wrong.
	Message string
}

// New returns the error of a broken rule; message is formatted with args as by fmt.Sprintf.
func New(code Code, message string, args ...any) *Error {
	if len(args) > 0 {
		message = fmt.Sprintf(message, args...)
	}
	return &Error{Code: code, Message: message}
}

// Error returns the code, the field if there is one, and the message.
func (e *Error) Error() string {
	if len(e.Field) == 0 {
		return string(e.Code) + ": " + e.Message
	}
	return string(e.Code) + ": " + strings.Join(e.Field, ".") + ": " + e.Message
}

// At returns a copy of e whose field has path before it: a module says lines, 0, sku, and its caller adds input.
func (e *Error) At(path ...string) *Error {
	return &Error{Code: e.Code, Field: slices.Concat(path, e.Field), Message: e.Message}
}

// Is reports whether target is the same rule, wherever in the input it was broken: code and message are equal.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == e.Message
}

// All returns every broken rule in err, which may be wrapped or joined, in order; none if err has no rule in it.
func All(err error) []*Error {
	switch e := err.(type) {
	case nil:
		return nil
	case *Error:
		return []*Error{e}
	case interface{ Unwrap() []error }:
		var all []*Error
		for _, one := range e.Unwrap() {
			all = append(all, All(one)...)
		}
		return all
	default:
		return All(errors.Unwrap(err))
	}
}

// CodeOf returns the code of the first broken rule in err, or "" if err has no rule in it.
func CodeOf(err error) Code {
	if all := All(err); len(all) > 0 {
		return all[0].Code
	}
	return ""
}
