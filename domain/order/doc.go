// Package order decides what becomes of what a buyer has bought.
//
// An order is the stream order-<number>: its number is its id, and its stream being empty is what makes the number
// unique. Its states are
//
//	(none) ──► PENDING ──► CONFIRMED ──► FULFILLED ──► RETURNED
//	              │             │
//	              └─────────────┴──► CANCELLED
//
// PENDING waits for its payment, CONFIRMED for its goods to be sent; CANCELLED and RETURNED are final. FULFILLED and
// RETURNED mean every unit: what is partly so shows in the lines. An order of which any unit has been sent can no longer
// be cancelled.
//
// Invariants: an order has at least one line, each with an id of its own from the first event; for every line
//
//	0 ≤ returned ≤ fulfilled ≤ quantity
//
// and the total is the sum of quantity times price over the lines, in one currency.
//
// Titles and prices are those of the moment of placing and never change. What is personal, the buyer's contact and
// payment token, is sealed before it comes here. Imported orders are history: no process acts on them.
package order
