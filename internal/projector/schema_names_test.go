package projector

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestSchemasAreRewritten(t *testing.T) {
	t.Parallel()
	schemas := map[string]string{"orders": "orders_3", "stock": "stock_12"}
	for sql, want := range map[string]string{
		`SELECT * FROM orders.orders`:                              `SELECT * FROM orders_3.orders`,
		`orders.lines`:                                             `orders_3.lines`,
		`SELECT orders.orders.id FROM orders.orders`:               `SELECT orders_3.orders.id FROM orders_3.orders`,
		`SELECT o.orders, 1 AS orders FROM orders.lines o`:         `SELECT o.orders, 1 AS orders FROM orders_3.lines o`,
		`SELECT 'stock.received', "stock.x" FROM stock.levels`:     `SELECT 'stock.received', "stock.x" FROM stock_12.levels`,
		`SELECT 'it''s stock.x' FROM stock.levels`:                 `SELECT 'it''s stock.x' FROM stock_12.levels`,
		"-- orders.x\nSELECT /* stock.y */ 1 FROM reorders.orders": "-- orders.x\nSELECT /* stock.y */ 1 FROM reorders.orders",
		`CREATE INDEX ON orders.lines (orders)`:                    `CREATE INDEX ON orders_3.lines (orders)`,
		`SELECT 'unfinished orders.x`:                              `SELECT 'unfinished orders.x`,
		`FROM orders.a JOIN stock.b ON orders.a.x=stock.b.y`:       `FROM orders_3.a JOIN stock_12.b ON orders_3.a.x=stock_12.b.y`,
	} {
		if got := rewriteSchemas(sql, schemas); got != want {
			t.Errorf("%s\n got %s\nwant %s", sql, got, want)
		}
	}
}

func TestSharesAddUpAndAreFair(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		partitions := rapid.IntRange(1, 64).Draw(t, "partitions")
		projections := rapid.IntRange(1, 6).Draw(t, "projections")
		workers := rapid.IntRange(1, 20).Draw(t, "workers")
		s := &survey{workers: make(map[string][]string)}
		for p := range projections {
			for w := range workers {
				s.workers[fmt.Sprintf("p%d@1", p)] = append(s.workers[fmt.Sprintf("p%d@1", p)], fmt.Sprintf("w%02d", w))
			}
		}
		totals := make([]int, workers)
		for p := range projections {
			sum, least, most := 0, partitions, 0
			for w := range workers {
				n := s.share(fmt.Sprintf("w%02d", w), fmt.Sprintf("p%d@1", p), partitions)
				sum, least, most = sum+n, min(least, n), max(most, n)
				totals[w] += n
			}
			if sum != partitions || most-least > 1 {
				t.Fatalf("projection %d: the shares add up to %d of %d, between %d and %d", p, sum, partitions, least, most)
			}
		}
		if slices.Max(totals)-slices.Min(totals) > 1 {
			t.Fatalf("the remainders are not spread: %v", totals)
		}
		if s.share("stranger", "p0@1", partitions) != 0 {
			t.Fatal("a worker that is not on the list has a share")
		}
	})
}
