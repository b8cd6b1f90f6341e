// Package sales is the read model of what was sold and what came back: an entry an order and an entry a
// return, summed up by day, month, country or SKU when asked.
//
// An entry is written by its order's partition alone, and sums are taken on reading: a row of sums would be
// written by many partitions at once. An order counts once it is confirmed, at the time when it was placed; a return
// counts at the time when it happened.
package sales

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// Name is the projection's name.
const Name = "sales"

// Projection keeps the entries.
func Projection() projector.Projection {
	return projector.Projection{
		Name:    Name,
		Version: 1,
		Events:  es.TypesOf(order.Events()),
		Postgres: &projector.Postgres{
			Schema: []string{
				// The arrays have an element a line.
				`CREATE TABLE sales.orders (
					number   text COLLATE "C" PRIMARY KEY,
					at       timestamptz NOT NULL,
					counted  boolean NOT NULL,
					country  text NOT NULL,
					currency text NOT NULL,
					units    bigint NOT NULL,
					amount   bigint NOT NULL,
					line_ids text[] NOT NULL,
					skus     text[] NOT NULL,
					line_units  bigint[] NOT NULL,
					line_prices bigint[] NOT NULL
				)`,
				// No query asks for a line by what is in it.
				`ALTER TABLE sales.orders ALTER line_ids SET STATISTICS 0, ALTER skus SET STATISTICS 0,
					ALTER line_units SET STATISTICS 0, ALTER line_prices SET STATISTICS 0`,
				`CREATE INDEX ON sales.orders (at) WHERE counted`,
				`CREATE TABLE sales.returns (
					number   text COLLATE "C" NOT NULL,
					version  bigint NOT NULL,
					at       timestamptz NOT NULL,
					country  text NOT NULL,
					currency text NOT NULL,
					amount   bigint NOT NULL,
					skus     text[] NOT NULL,
					line_amounts bigint[] NOT NULL,
					PRIMARY KEY (number, version)
				)`,
				`CREATE INDEX ON sales.returns (at)`,
			},
			Apply: func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
				return projector.Fold(ctx, tx, events, number, load, fold, save)
			},
		},
	}
}

// entry is an order's entry; changed and returns are what a batch does to it and adds to it.
type entry struct {
	at       time.Time
	counted  bool
	country  string
	currency string
	lines    []line
	changed  bool
	returns  []returned
}

// Saved is the entry without what has been written.
func (s entry) Saved() entry {
	s.changed, s.returns = false, nil
	return s
}

// line is what was sold of a SKU at a price.
type line struct {
	id, sku      string
	units, price int64
}

// returned is a return; skus and amounts have an element a line.
type returned struct {
	version int64
	at      time.Time
	amount  int64
	skus    []string
	amounts []int64
}

func number(e *es.Event) string { return es.IDOf(e.Stream) }

func fold(s entry, e *es.Event) (entry, error) {
	switch fact := e.Fact.(type) {
	case order.Placed:
		s = entry{at: fact.PlacedAt, country: fact.Country, currency: string(fact.Currency), changed: true, lines: make([]line, len(fact.Lines))}
		if s.country == "" {
			s.country = "Unspecified"
		}
		for i, l := range fact.Lines {
			s.lines[i] = line{id: l.ID, sku: l.SKU, units: int64(l.Quantity), price: l.UnitPrice.Minor}
		}
	case order.Confirmed:
		s.counted, s.changed = true, true
	case order.Cancelled:
		s.counted, s.changed = false, true
	case order.Returned:
		r := returned{version: e.Version, at: e.OccurredAt, amount: fact.Amount.Minor}
		byID := make(map[string]line, len(s.lines))
		for _, l := range s.lines {
			byID[l.id] = l
		}
		for _, q := range fact.Lines {
			l, ok := byID[q.ID]
			if !ok {
				return s, fmt.Errorf("sales: order %s has no line %s to return", number(e), q.ID)
			}
			r.skus, r.amounts = append(r.skus, l.sku), append(r.amounts, l.price*int64(q.Quantity))
		}
		s.returns = append(s.returns, r)
	case order.Fulfilled:
	default:
		return s, fmt.Errorf("sales: %T is no event of an order", e.Fact)
	}
	return s, nil
}

func load(ctx context.Context, tx *projector.Tx, numbers []string) (map[string]entry, error) {
	rows, err := tx.Query(ctx, `SELECT number, at, counted, country, currency, line_ids, skus, line_units, line_prices
		FROM sales.orders WHERE number = ANY ($1)`, numbers)
	if err != nil {
		return nil, err
	}
	entries := map[string]entry{}
	var number string
	var s entry
	var ids, skus []string
	var units, prices []int64
	_, err = pgx.ForEachRow(rows, []any{&number, &s.at, &s.counted, &s.country, &s.currency, &ids, &skus, &units, &prices}, func() error {
		s.lines = make([]line, len(ids))
		for i := range ids {
			s.lines[i] = line{id: ids[i], sku: skus[i], units: units[i], price: prices[i]}
		}
		entries[number] = s
		return nil
	})
	return entries, err
}

var (
	orderColumns = []string{
		"number", "at", "counted", "country", "currency", "units", "amount", "line_ids", "skus", "line_units", "line_prices",
	}
	returnColumns = []string{"number", "version", "at", "country", "currency", "amount", "skus", "line_amounts"}
)

func save(ctx context.Context, tx *projector.Tx, changed []projector.Changed[entry]) error {
	var added, returns [][]any
	var known []string
	var counted []bool
	for _, c := range changed {
		number, s := c.Key, c.State
		switch {
		case !s.changed:
		case c.New && tx.Bulk():
			added = append(added, s.row(number))
		case c.New:
			tx.Queue(`INSERT INTO sales.orders (number, at, counted, country, currency, units, amount, line_ids, skus, line_units, line_prices)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`, s.row(number)...)
		default:
			known, counted = append(known, number), append(counted, s.counted)
		}
		for _, back := range s.returns {
			returns = append(returns, []any{number, back.version, back.at, s.country, s.currency, back.amount, back.skus, back.amounts})
		}
	}
	if len(known) > 0 {
		tx.Queue(`UPDATE sales.orders o SET counted = c.counted FROM unnest($1::text[], $2::boolean[]) AS c(number, counted)
			WHERE o.number = c.number`, known, counted)
	}
	if !tx.Bulk() {
		for _, row := range returns {
			tx.Queue(`INSERT INTO sales.returns (number, version, at, country, currency, amount, skus, line_amounts)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, row...)
		}
		return nil
	}
	if len(added) > 0 {
		if err := tx.Copy(ctx, "sales.orders", orderColumns, added); err != nil {
			return err
		}
	}
	if len(returns) == 0 {
		return nil
	}
	return tx.Copy(ctx, "sales.returns", returnColumns, returns)
}

// row returns the values of the columns.
func (s entry) row(number string) []any {
	n := len(s.lines)
	ids, skus, units, prices := make([]string, n), make([]string, n), make([]int64, n), make([]int64, n)
	var total, amount int64
	for i, l := range s.lines {
		ids[i], skus[i], units[i], prices[i] = l.id, l.sku, l.units, l.price
		total += l.units
		amount += l.units * l.price
	}
	return []any{
		number, s.at, s.counted, s.country, s.currency, total, amount,
		// As FlatArray, because the driver finds out anew for each row what a plain slice is.
		pgtype.FlatArray[string](ids), pgtype.FlatArray[string](skus), pgtype.FlatArray[int64](units), pgtype.FlatArray[int64](prices),
	}
}
