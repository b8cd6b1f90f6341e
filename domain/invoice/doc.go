// Package invoice decides which lines of an imported invoice are done.
//
// An invoice is the stream invoice-<number>. It has one kind of state, the set of its lines, by their place on the
// invoice from 1, whose effect is in the log; the set only grows.
//
// It is there for the lines that leave no stream of their own behind: returns and stock corrections. A line is marked in
// the same append as its effect, so that an import that is repeated does only what is new. The sales of an invoice need no
// such mark: they are the order of the invoice's number, which exists or does not.
package invoice
