// Package inventory decides how many units of a SKU there are and who may have them.
//
// The stock of a SKU is the stream stock-<SKU>. It has two states: not opened, and opened for one product, which is for
// ever. Opening it is how a product claims the SKU: that no two products have one SKU follows from its stream having one
// beginning.
//
// Invariants, after every event:
//
//	0 ≤ reserved ≤ on hand ≤ 2,147,483,647 (what a GraphQL Int holds)
//
// so that what is available, on hand less reserved, is never below zero. A buyer's units are reserved first and leave
// with shipped, or come free with released; sold is for units that left without having been reserved, as on historic
// invoices.
//
// Who holds how much of what is reserved is not in the state, which would grow without bound on a hot SKU. The order
// knows: each of its steps that moves stock is decided in the same append as the stock's event, so that an order's units
// are released or shipped once only because the order can be cancelled or fulfilled once only.
package inventory
