// Package cart decides what a buyer means to buy.
//
// A cart is the stream cart-<ref>, where ref is a hash of the cart's secret id. Its states are
//
//	(none) ──► OPEN ──► CHECKED_OUT
//
// and the last is final: a cart becomes one order.
//
// Invariants: one line a SKU; 1 to 100,000 units a line; at most 500 lines, all in the cart's currency; the subtotal fits
// into 64 bits of minor units. A command with one bad line changes nothing.
//
// A line's price is what was known when units were last added to it, and is there for the subtotal to be shown. What the
// buyer pays is decided at checkout on the prices of that moment, and so is whether there is stock.
package cart
