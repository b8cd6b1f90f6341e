package projector

import "testing"

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
