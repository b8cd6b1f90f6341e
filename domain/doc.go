// Package domain lists every event that a stream of Millrace may hold.
//
// What may happen is decided in the packages below it, a package a module. They are pure: no context, clock, network
// or database; a command looks at a state and answers with the events that follow from it, or with the rule that
// forbids it. All modules have the same furniture: doc.go, events.go (the closed set of facts), state.go (the state and
// its one Evolve), a file a command, errors.go (one coded error a rule), and testdata with one stored JSON of every
// event, which must decode for ever.
package domain

import (
	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/invoice"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/domain/person"
)

// Events returns one zero value of every event that exists, for codecs to learn their stored names from. Each value has
// the method EventType() string.
func Events() []any {
	var all []any
	for _, e := range catalog.Events() {
		all = append(all, e)
	}
	for _, e := range catalog.SlugEvents() {
		all = append(all, e)
	}
	for _, e := range inventory.Events() {
		all = append(all, e)
	}
	for _, e := range cart.Events() {
		all = append(all, e)
	}
	for _, e := range order.Events() {
		all = append(all, e)
	}
	for _, e := range payment.Events() {
		all = append(all, e)
	}
	for _, e := range invoice.Events() {
		all = append(all, e)
	}
	for _, e := range person.Events() {
		all = append(all, e)
	}
	return all
}
