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
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

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

// entry is an order's entry and the returns that a batch adds to it.
type entry struct {
	at       time.Time
	counted  bool
	country  string
	currency string
	lines    []line
	changed  bool
	returns  []returned
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

// rows are the columns of sales.orders. A row's arrays travel as text, because PostgreSQL knows no array of arrays of
// different lengths.
type rows struct {
	numbers, countries, currencies, ids, skus, lineUnits, linePrices []string
	at                                                               []time.Time
	counted                                                          []bool
	units, amounts                                                   []int64
}

func save(_ context.Context, tx *projector.Tx, changed map[string]entry) error {
	var r rows
	for number, s := range changed {
		if s.changed {
			r.add(number, s)
		}
		for _, back := range s.returns {
			tx.Queue(`INSERT INTO sales.returns (number, version, at, country, currency, amount, skus, line_amounts)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, number, back.version, back.at, s.country, s.currency, back.amount, back.skus, back.amounts)
		}
	}
	if len(r.numbers) > 0 {
		tx.Queue(`INSERT INTO sales.orders (number, at, counted, country, currency, units, amount, line_ids, skus, line_units, line_prices)
			SELECT number, at, counted, country, currency, units, amount, line_ids::text[], skus::text[], line_units::bigint[], line_prices::bigint[]
			FROM unnest($1::text[], $2::timestamptz[], $3::boolean[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[])
				AS rows(number, at, counted, country, currency, units, amount, line_ids, skus, line_units, line_prices)
			ON CONFLICT (number) DO UPDATE SET counted = excluded.counted`,
			r.numbers, r.at, r.counted, r.countries, r.currencies, r.units, r.amounts, r.ids, r.skus, r.lineUnits, r.linePrices)
	}
	return nil
}

func (r *rows) add(number string, s entry) {
	n := len(s.lines)
	ids, skus, units, prices := make([]string, n), make([]string, n), make([]int64, n), make([]int64, n)
	var total, amount int64
	for i, l := range s.lines {
		ids[i], skus[i], units[i], prices[i] = l.id, l.sku, l.units, l.price
		total += l.units
		amount += l.units * l.price
	}
	r.numbers, r.at, r.counted = append(r.numbers, number), append(r.at, s.at), append(r.counted, s.counted)
	r.countries, r.currencies = append(r.countries, s.country), append(r.currencies, s.currency)
	r.units, r.amounts = append(r.units, total), append(r.amounts, amount)
	r.ids, r.skus = append(r.ids, textArray(ids)), append(r.skus, textArray(skus))
	r.lineUnits, r.linePrices = append(r.lineUnits, intArray(units)), append(r.linePrices, intArray(prices))
}

var quoteElement = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// textArray returns the text form of a PostgreSQL array of texts.
func textArray(values []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		_, _ = quoteElement.WriteString(&b, v) // a strings.Builder takes everything
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

// intArray returns the text form of a PostgreSQL array of integers.
func intArray(values []int64) string {
	b := make([]byte, 0, 8*len(values)+2)
	b = append(b, '{')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, v, 10)
	}
	return string(append(b, '}'))
}
