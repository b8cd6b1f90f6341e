package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/devstack"
)

// Targets of replay: the share of the baseline's rate, and how much more memory the longer log may take than a part of it.
const (
	replayTarget       = 0.30
	replayMemoryTarget = 1.2
)

// replays is how often everything is rebuilt, unless replayTime is over before.
const (
	replays       = 3
	replayTime    = 2 * time.Minute
	replayTimeout = 5 * time.Minute
)

// replay measures the rebuild of all read models from a long log, against a plain reading of the same log over the
// same kind of connection; and how much more memory it takes than one from a log of half the length.
func replay(ctx context.Context, l *lab) ([]Figure, error) {
	s, err := l.importedShop(ctx)
	if err != nil {
		return nil, err
	}
	var shorter []float64
	for range replays {
		once, err := s.replayOnce(ctx, l)
		if err != nil {
			return nil, err
		}
		shorter = append(shorter, once.peak)
	}
	if s, err = l.longShop(ctx); err != nil {
		return nil, err
	}
	servers, err := devstack.Find(s.data)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, servers.PostgresURL)
	if err != nil {
		return nil, fmt.Errorf("bench: connecting to PostgreSQL: %w", err)
	}
	r, err := replayInTurn(ctx, l, s, conn)
	if err := errors.Join(err, conn.Close(context.WithoutCancel(ctx))); err != nil {
		return nil, err
	}
	return []Figure{
		l.aimingAtWhole(newFigure("replay", median(r.rates), "events/s", Higher).against(median(r.plain)), replayTarget),
		l.aimingAtWhole(newFigure("replay-memory", median(r.peaks), "MiB", Lower).against(median(shorter)), replayMemoryTarget),
	}, nil
}

// replayResult is what rebuilding and reading plainly came to.
type replayResult struct {
	rates, plain []float64 // events/s
	peaks        []float64 // MiB of the process that rebuilds
}

// replayInTurn rebuilds and reads plainly in turn.
func replayInTurn(ctx context.Context, l *lab, s *shop, conn *pgx.Conn) (r replayResult, err error) {
	if _, err := readPlainly(ctx, conn); err != nil { // both find the log in memory
		return r, err
	}
	for began := time.Now(); len(r.rates) < replays && (len(r.rates) == 0 || time.Since(began) < replayTime); {
		rate, err := readPlainly(ctx, conn)
		if err != nil {
			return r, err
		}
		r.plain = append(r.plain, rate)
		once, err := s.replayOnce(ctx, l)
		if err != nil {
			return r, err
		}
		r.rates = append(r.rates, once.rate)
		r.peaks = append(r.peaks, once.peak)
		l.say("  read plainly at %.0f/s", rate)
	}
	return r, nil
}

// replayedOnce is what one rebuild came to.
type replayedOnce struct {
	rate float64 // events/s
	peak float64 // MiB of the process that rebuilds
}

func (s *shop) replayOnce(ctx context.Context, l *lab) (replayedOnce, error) {
	var replayed struct {
		Events          int64   `json:"events"`
		EventsPerSecond float64 `json:"eventsPerSecond"`
	}
	bounded, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	a, err := s.call(bounded, &replayed, "replay", "--all", "--json")
	if err != nil {
		return replayedOnce{}, err
	}
	l.say("  %d events: replayed at %.0f/s, peak %.0f MiB", replayed.Events, replayed.EventsPerSecond, a.peak)
	return replayedOnce{rate: replayed.EventsPerSecond, peak: a.peak}, nil
}

// readPlainly streams all columns of the whole log, decodes nothing, and returns events/s.
func readPlainly(ctx context.Context, conn *pgx.Conn) (float64, error) {
	began := time.Now()
	rows, err := conn.Query(ctx, `SELECT position, stream, version, type, data, metadata, occurred_at, recorded_at, partition, ordinal
		FROM events ORDER BY position`)
	if err != nil {
		return 0, fmt.Errorf("bench: reading the log plainly: %w", err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		n++
	}
	if err := rows.Err(); err != nil {
		return 0, fmt.Errorf("bench: reading the log plainly: %w", err)
	}
	return float64(n) / time.Since(began).Seconds(), nil
}
