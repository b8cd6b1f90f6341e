package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/millrace/millrace/internal/projector"
)

// Targets of import, for the whole file: seconds, seconds and MiB.
const (
	importTarget   = 90
	caughtUpTarget = 30
	memoryTarget   = 1024
)

// importTimeout bounds an import far from its target, and caughtUpTimeout the time until every model shows it.
const (
	importTimeout   = 10 * time.Minute
	caughtUpTimeout = 2 * time.Minute
)

// importResult is what an import came to.
type importResult struct {
	file     string
	rows     int
	seconds  float64
	caughtUp float64 // s
	peak     float64 // MiB of the importing process
	upPeak   float64 // MiB of the shop's
}

// importOrders measures the import into an empty shop whose workers run.
func importOrders(ctx context.Context, l *lab) ([]Figure, error) {
	s, err := l.importedShop(ctx)
	if err != nil {
		return nil, err
	}
	r := s.imported
	return []Figure{
		l.aimingAtWhole(newFigure("import", r.seconds, fmt.Sprintf("s for %d rows (%s)", r.rows, r.file), Lower), importTarget),
		l.aimingAtWhole(newFigure("import-caught-up", r.caughtUp, "s", Lower), caughtUpTarget),
		l.aimingAtWhole(newFigure("import-memory", r.peak, "MiB", Lower), memoryTarget),
		l.aimingAtWhole(newFigure("import-memory-up", r.upPeak, "MiB", Lower), memoryTarget),
	}, nil
}

// aimingAtWhole gives a figure its target unless only the shipped sample was imported, which says nothing about it: it is over
// before anything has got going.
func (l *lab) aimingAtWhole(f Figure, target float64) Figure {
	if l.File == "" {
		return f
	}
	return f.aiming(target)
}

// importedShop returns a shop that holds what was imported, and knows how that went.
func (l *lab) importedShop(ctx context.Context) (*shop, error) {
	s, err := l.shopOf(ctx, emptyShop)
	if err != nil || s.imported != nil {
		return s, err
	}
	file, name := "-", "the shipped sample" // as the import command has it
	if l.File != "" {
		if file, err = filepath.Abs(l.File); err != nil {
			return nil, fmt.Errorf("bench: finding the file to import: %w", err)
		}
		name = filepath.Base(file)
	}
	l.say("importing %s", name)
	var summary struct {
		Rows int `json:"rows"`
	}
	bounded, cancel := context.WithTimeout(ctx, importTimeout)
	defer cancel()
	done, err := s.call(bounded, &summary, "import", "orders", file, "--json")
	if err != nil {
		return nil, err
	}
	r := &importResult{file: name, rows: summary.Rows, seconds: done.elapsed.Seconds(), peak: done.peak}
	l.say("  %d rows in %.1f s", r.rows, r.seconds)
	caughtUp, err := s.catchUp(ctx)
	if err != nil {
		return nil, err
	}
	r.caughtUp, r.upPeak = caughtUp.Seconds(), s.memory.peak()
	s.imported, s.years = r, 1
	return s, nil
}

// catchUp returns how long it takes until no read model lags behind the log, with the time to find that out.
func (s *shop) catchUp(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, caughtUpTimeout, errors.New("the read models did not catch up"))
	defer cancel()
	for began := time.Now(); ; {
		var models []projector.Status
		if _, err := s.call(ctx, &models, "projections", "--json"); err != nil {
			return 0, errors.Join(err, context.Cause(ctx))
		}
		var lag int64
		for _, m := range models {
			lag += m.Lag
			s.events = max(s.events, m.Position)
		}
		if len(models) > 0 && lag == 0 {
			return time.Since(began), nil
		}
		if err := wait(ctx, memoryInterval); err != nil {
			return 0, err
		}
	}
}
