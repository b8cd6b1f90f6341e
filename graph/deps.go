package graph

import (
	"context"
	"errors"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
	"github.com/millrace/millrace/projections/catalogue"
	"github.com/millrace/millrace/projections/orders"
	"github.com/millrace/millrace/projections/paging"
	"github.com/millrace/millrace/projections/sales"
)

// Deps are the parts of Millrace that the face shows. All are needed.
//
// Every reader waits for the position of its context (es.PositionFrom), bounded, and then fails with an error wrapping
// projector.ErrStale. Answers are shared: nobody changes what they point to. A method that takes several keys returns one
// answer a key, in their order, nil where there is none; it is given each key once, at most [batchSize] of them.
type Deps struct {
	Commands    Commands
	Catalogue   Catalogue
	Stock       Stock
	Carts       Carts
	Orders      Orders
	Sales       Sales
	Projections Projections
	// Log is read where read models are not enough: an order's history, the operator's list of events.
	Log   es.Reader
	Feed  Feed
	Vault Vault
}

func (d Deps) check() error {
	for name, missing := range map[string]bool{
		"Commands": d.Commands == nil, "Catalogue": d.Catalogue == nil, "Stock": d.Stock == nil, "Carts": d.Carts == nil,
		"Orders": d.Orders == nil, "Sales": d.Sales == nil, "Projections": d.Projections == nil, "Log": d.Log == nil,
		"Feed": d.Feed == nil, "Vault": d.Vault == nil,
	} {
		if missing {
			return errors.New("graph: Deps." + name + " is missing")
		}
	}
	return nil
}

// Commands is the write side. Its errors hold rule.Errors whose fields begin in the arguments (input, ...), or wrap
// es.ErrUnavailable, perhaps with es.ErrOutcomeUnknown.
type Commands interface {
	CartCreate(ctx context.Context, in commands.CartCreate) (commands.CartResult, error)
	CartLinesAdd(ctx context.Context, in commands.CartLinesAdd) (commands.CartResult, error)
	CartLinesUpdate(ctx context.Context, in commands.CartLinesUpdate) (commands.CartResult, error)
	CheckOut(ctx context.Context, in commands.CheckOut) (commands.OrderResult, error)
	OrderCancel(ctx context.Context, in commands.OrderCancel) (commands.OrderResult, error)
	OrderFulfill(ctx context.Context, in commands.OrderFulfill) (commands.OrderResult, error)
	ProductCreate(ctx context.Context, in commands.ProductCreate) (commands.ProductResult, error)
	ProductUpdate(ctx context.Context, in commands.ProductUpdate) (commands.ProductResult, error)
	VariantPriceChange(ctx context.Context, in commands.VariantPriceChange) (commands.ProductResult, error)
	StockReceive(ctx context.Context, in commands.StockReceive) (commands.StockResult, error)
	StockAdjust(ctx context.Context, in commands.StockAdjust) (commands.StockResult, error)
	PersonForget(ctx context.Context, in commands.PersonForget) (position int64, err error)

	// MayAccess reports whether token is the access token of the order.
	MayAccess(orderID, token string) bool
	// Currency is the shop's.
	Currency() money.Currency
}

// Catalogue reads products, whatever their status: who may see which is decided here.
type Catalogue interface {
	Products(ctx context.Context, ids []string) ([]*catalog.State, error)
	ProductsBySlug(ctx context.Context, slugs []string) ([]*catalog.State, error)
	List(ctx context.Context, q catalogue.Query) (paging.Page[catalog.State], error)
	Count(ctx context.Context, f catalogue.Filter) (int, error)
}

// Stock reads what can be bought. A stock names the product of its SKU.
type Stock interface {
	Levels(ctx context.Context, skus []string) ([]*inventory.State, error)
}

// Carts reads carts by their refs (commands.CartRef), never by their secret ids.
type Carts interface {
	Carts(ctx context.Context, refs []string) ([]*cart.State, error)
}

// Orders reads orders.
type Orders interface {
	Orders(ctx context.Context, numbers []string) ([]*order.State, error)
	List(ctx context.Context, q orders.Query) (paging.Page[order.State], error)
	Count(ctx context.Context, status order.Status) (int, error)
}

// Sales reads the sales report: from inclusive, to exclusive, by DAY, MONTH, COUNTRY or SKU.
type Sales interface {
	Report(ctx context.Context, from, to time.Time, groupBy string) ([]sales.Row, error)
}

// Projections tells how far the read models have come, and gets them moving where an event stops them. The errors of Park
// and Retry are *projector.OperatorError where the operator is mistaken.
type Projections interface {
	Status(ctx context.Context) ([]projector.Status, error)
	Parked(ctx context.Context, projections ...string) ([]projector.ParkedEvent, error)
	Park(ctx context.Context, projection string, position int64) error
	Retry(ctx context.Context, projection string, position int64) error
}

// Feed tells of events as they are committed.
type Feed interface {
	// Follow calls do with every event behind the position, in the order of the log, until ctx ends or do returns an
	// error, which it returns.
	Follow(ctx context.Context, after int64, do func([]es.Event) error) error
	// Head returns the position up to which the log is known.
	Head() int64
}

// Vault opens personal data.
type Vault interface {
	// OpenAll returns what was sealed, in order. The error of a box whose key is gone for ever has the method
	// Forgotten() bool.
	OpenAll(ctx context.Context, keyIDs []string, boxes [][]byte) ([][]byte, []error)
}
