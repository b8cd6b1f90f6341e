package commands

import (
	"context"

	"github.com/millrace/millrace/domain/inventory"
)

// StockAdjust puts the number of units right after a count, a find or a loss.
type StockAdjust struct {
	// SKU is in any spelling.
	SKU string
	// Delta is how many units more there are than was known; negative if fewer.
	Delta  int
	Reason string
}

// StockAdjust answers with the stock. Refusals: rule.NotFound at input, sku; rule.Invalid at input, delta or reason;
// rule.OutOfStock at input, delta if fewer units are available than would be taken away.
func (a *App) StockAdjust(ctx context.Context, in StockAdjust) (StockResult, error) {
	command := inventory.Adjust{Delta: in.Delta, Reason: in.Reason}
	return a.moveStock(ctx, "stock.adjust", in.SKU, in, command.Decide)
}
