package sales

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/internal/projector"
)

// Model answers queries about sales.
type Model struct {
	models   *projector.Models
	timeZone string
}

// New returns the model read through models; days and months are those of the time zone, an IANA name.
func New(models *projector.Models, timeZone string) *Model {
	return &Model{models: models, timeZone: timeZone}
}

// Row is the sales of a key.
type Row struct {
	Key           string
	Orders, Units int
	// Sold is before returns, Returned what went back; both in the row's currency.
	Sold, Returned money.Money
}

// What the entries are grouped by: expressions over sales.orders or sales.returns, $3 being the time zone.
var keys = map[string]string{
	"DAY":     `to_char(at AT TIME ZONE $3, 'YYYY-MM-DD')`,
	"MONTH":   `to_char(at AT TIME ZONE $3, 'YYYY-MM')`,
	"COUNTRY": `country`,
}

// byEntry sums entries up, bySKU their lines; both give a row a key and a currency. An order counts once for a SKU, on
// however many of its lines that stands.
const (
	byEntry = `
SELECT key, currency, sum(orders)::bigint, sum(units)::bigint, sum(sold)::bigint, sum(returned)::bigint
FROM (
  SELECT %[1]s AS key, currency, 1 AS orders, units, amount AS sold, 0 AS returned
  FROM sales.orders WHERE counted AND at >= $1 AND at < $2
  UNION ALL
  SELECT %[1]s, currency, 0, 0, 0, amount FROM sales.returns WHERE at >= $1 AND at < $2
) AS entries
GROUP BY key, currency ORDER BY key, currency`
	bySKU = `
SELECT key, currency, sum(orders)::bigint, sum(units)::bigint, sum(sold)::bigint, sum(returned)::bigint
FROM (
  SELECT l.sku AS key, currency, 1 AS orders, sum(l.units) AS units, sum(l.units * l.price) AS sold, 0 AS returned
  FROM sales.orders, unnest(skus, line_units, line_prices) AS l(sku, units, price)
  WHERE counted AND at >= $1 AND at < $2
  GROUP BY number, currency, l.sku
  UNION ALL
  SELECT l.sku, currency, 0, 0, 0, l.amount
  FROM sales.returns, unnest(skus, line_amounts) AS l(sku, amount) WHERE at >= $1 AND at < $2
) AS entries
GROUP BY key, currency ORDER BY key, currency`
)

// Report returns what was sold and returned at or after from and before to, grouped by DAY, MONTH, COUNTRY or
// SKU, in the order of the keys.
func (m *Model) Report(ctx context.Context, from, to time.Time, groupBy string) ([]Row, error) {
	sql, args := bySKU, []any{from, to}
	if groupBy != "SKU" {
		key, ok := keys[groupBy]
		if !ok {
			return nil, rule.New(rule.Invalid, "a sales report is grouped by DAY, MONTH, COUNTRY or SKU, not by %q", groupBy).At("groupBy")
		}
		sql = fmt.Sprintf(byEntry, key)
		if groupBy != "COUNTRY" {
			args = append(args, m.timeZone)
		}
	}
	var report []Row
	err := m.models.Query(ctx, projector.Need{Projections: []string{Name}}, sql, args, func(rows pgx.Rows) (err error) {
		report, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Row, err error) {
			var currency string
			err = row.Scan(&r.Key, &currency, &r.Orders, &r.Units, &r.Sold.Minor, &r.Returned.Minor)
			r.Sold.Currency, r.Returned.Currency = money.Currency(currency), money.Currency(currency)
			return r, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sales: reporting by %s: %w", groupBy, err)
	}
	return report, nil
}
