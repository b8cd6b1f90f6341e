package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/onlineretail"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// sampleStock is what there is to buy of each product of the sample: its own invoices sold all that it opened with.
const sampleStock = 100

// loadSample imports the sample day into an empty log and stocks its products. A mark in the data directory
// says that it is under way, so that a run that was killed is taken up again.
func (s *shop) loadSample(ctx context.Context, dir string, side *writeSide, models *projector.Models, out *console) error {
	mark := filepath.Join(dir, "sample.loading")
	head, err := s.log.Head(ctx)
	if err != nil {
		return err
	}
	if _, err := os.Stat(mark); head > 0 && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return fmt.Errorf("marking the sample as being loaded: %w", err)
	}
	fmt.Fprintln(out.err, "Loading the sample: one day of a real shop (Online Retail, D. Chen 2015, CC BY 4.0) ...")
	result, err := s.importOrders(ctx, onlineretail.Sample(), "", side, models, out)
	if err != nil {
		return fmt.Errorf("loading the sample: %w", err)
	}
	position, err := s.stockSample(ctx, side.app, result.Position)
	if err != nil {
		return fmt.Errorf("stocking the sample: %w", err)
	}
	if err := awaitVisible(ctx, models, position, func(int64) {}); err != nil {
		return err
	}
	fmt.Fprintf(out.err, "The sample is loaded: %d rows, and stock to sell.\n", result.Summary.Rows)
	return os.Remove(mark)
}

// stockSample fills the stock of every SKU up to sampleStock, and returns the position behind that.
func (s *shop) stockSample(ctx context.Context, app *commands.App, upTo int64) (int64, error) {
	levels, err := s.stockLevels(ctx, upTo)
	if err != nil {
		return 0, err
	}
	g, receiving := errgroup.WithContext(es.WithMetadata(ctx, es.Metadata{Actor: "import"}))
	g.SetLimit(64)
	for sku, level := range levels {
		if missing := sampleStock - level.Available(); missing > 0 {
			g.Go(func() error {
				_, err := app.StockReceive(receiving, commands.StockReceive{SKU: sku, Quantity: missing, Reference: "sample delivery"})
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return s.log.Head(ctx)
}

// stockLevels folds the stock of every SKU from the log.
func (s *shop) stockLevels(ctx context.Context, upTo int64) (map[string]inventory.State, error) {
	levels := map[string]inventory.State{}
	for after := int64(0); after < upTo; {
		events, err := s.log.ReadAll(ctx, after, 5000)
		if err != nil {
			return nil, err
		}
		for i := range events {
			if fact, ok := events[i].Fact.(inventory.Event); ok {
				sku := es.IDOf(events[i].Stream)
				levels[sku] = inventory.Evolve(levels[sku], fact)
			}
		}
		if len(events) == 0 {
			break
		}
		after = events[len(events)-1].Position
	}
	return levels, nil
}
