package model

import (
	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/money"
)

// Cart is a cart, for whoever has its id.
type Cart struct {
	cart.State
	// Secret is the cart's id, Ref the hash of it that names its stream.
	Secret, Ref string
	// Fresh are the SKUs whose prices in State were decided just now.
	Fresh map[string]bool
}

// ID returns the cart's global id, which is as secret as the id in it.
func (c *Cart) ID() string { return GlobalID(KindCart, c.Secret) }

// CartLine is a line of a cart at the price that counts now.
type CartLine struct {
	Ref     string
	Variant *Variant
	// Quantity counts units, UnitPrice is for one of them, Total for all.
	Quantity         int
	UnitPrice, Total money.Money
}

// ID returns the line's global id.
func (l *CartLine) ID() string { return GlobalID(kindCartLine, l.Ref+":"+l.Variant.SKU) }
