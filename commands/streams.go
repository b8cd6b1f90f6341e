package commands

import (
	"time"

	"github.com/millrace/millrace/domain"
	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/invoice"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/domain/person"
	"github.com/millrace/millrace/internal/es"
)

// The kinds of streams that exist, and what names a stream of each. Those that may grow long have snapshots, none of which holds
// personal data; an order, which does, and its payment have few events.
var (
	// Products are the streams product-<product id>. Their states carry the times of their events.
	Products = es.NewTimedKind("product", func(s catalog.State, e catalog.Event, at time.Time) catalog.State {
		return catalog.Evolve(s, e).At(at)
	}).Snapshotted(1)
	// Slugs are the streams slug-<slug>: who has it.
	Slugs = es.NewKind("slug", catalog.EvolveSlug).Snapshotted(1)
	// Stocks are the streams stock-<SKU>, the SKU in its normal spelling.
	Stocks = es.NewKind("stock", inventory.Evolve).Snapshotted(1)
	// Carts are the streams cart-<ref>; see CartRef.
	Carts = es.NewKind("cart", cart.Evolve).Snapshotted(1)
	// Orders are the streams order-<number>.
	Orders = es.NewKind("order", order.Evolve)
	// Payments are the streams payment-<number of the order>.
	Payments = es.NewKind("payment", payment.Evolve)
	// Invoices are the streams invoice-<number>: what has been imported of an invoice besides its order.
	Invoices = es.NewKind("invoice", invoice.Evolve).Snapshotted(1)
	// Persons are the streams person-<subject>; see [App.SubjectOf].
	Persons = es.NewKind("person", person.Evolve)
)

// Categories returns all kinds of streams that commands may name.
func Categories() []*es.Category {
	return []*es.Category{
		Products.Category, Slugs.Category, Stocks.Category, Carts.Category, Orders.Category, Payments.Category,
		Invoices.Category, Persons.Category,
	}
}

// Codec returns a codec for every event of the domain.
func Codec() *es.Codec { return es.NewCodec(domain.Events()...) }
