package projectortest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// Expectation is what has to hold when the events of a case are folded.
type Expectation struct {
	// check returns what is wrong.
	check func(ctx context.Context, o *outcome) []string
}

// Row is what a query returns of a row, column by column.
type Row []any

// Rows expects that a query on the projection's tables, which it names as the projection does, returns these rows in this order.
// Each value is read as one of the wanted value's type; structs, maps, and slices of them, as the JSON that is stored.
func Rows(query string, want ...Row) Expectation {
	return Expectation{func(ctx context.Context, o *outcome) []string {
		var got []Row
		w := o.singly()
		models, err := w.models(w.trial.kit.redis)
		if err != nil {
			return []string{err.Error()}
		}
		need := projector.Need{Projections: []string{w.projection.Name}}
		err = models.Query(ctx, need, query, nil, func(rows pgx.Rows) (err error) {
			got, err = collect(rows, want)
			return err
		})
		if err != nil {
			return []string{fmt.Sprintf("%s: %s: %v", inPostgres, query, err)}
		}
		return compare(inPostgres+": "+query, want, got)
	}}
}

// Document expects a document in Redis; a nil one, that there is none. It is found by its key in the partition of the stream, and read
// as a value of the wanted one's type.
func Document(stream, key string, want any) Expectation {
	return Expectation{func(_ context.Context, o *outcome) []string {
		partition := es.PartitionOf(stream, o.trial.log.Info().Partitions)
		var got any
		for _, s := range o.singly().stored {
			if s.Table == "" && s.Partition == partition && s.Key == key {
				var err error
				if got, err = fromJSON([]byte(s.JSON), want); err != nil {
					return []string{fmt.Sprintf("%s: document %s: %v", inRedis, key, err)}
				}
			}
		}
		return compare(inRedis+": document "+key, want, got)
	}}
}

// Sources are what the queries of a read model are asked on.
type Sources struct {
	Models *projector.Models
	Log    es.Reader
}

// Answer expects what a query of the read model's own answers at the end of the log. Where the projection has documents it is asked
// twice: with Redis and without.
func Answer[T any](ask func(ctx context.Context, from Sources) (T, error), want T) Expectation {
	return Expectation{func(ctx context.Context, o *outcome) []string {
		var problems []string
		err := o.sources(ctx, func(ctx context.Context, name string, from Sources) {
			got, err := ask(ctx, from)
			if err != nil {
				problems = append(problems, fmt.Sprintf("answer %s: %v", name, err))
				return
			}
			problems = append(problems, compare("answer "+name, want, got)...)
		})
		if err != nil {
			return []string{fmt.Sprintf("asking: %v", err)}
		}
		return problems
	}}
}

// sources calls ask with what queries are asked on: as in a shop, and as in one whose Redis is away, where that makes a difference.
func (o *outcome) sources(ctx context.Context, ask func(ctx context.Context, name string, from Sources)) error {
	w := o.singly()
	ctx = es.WithPosition(ctx, w.feed.Head())
	without, err := w.models(nil)
	if err != nil {
		return err
	}
	ask(ctx, "from "+inPostgres+" and the log", Sources{Models: without, Log: o.trial.log})
	if w.projection.Redis == nil {
		return nil
	}
	with, err := w.models(o.trial.kit.redis)
	if err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- with.Run(running) }()
	if err = o.awaitDocuments(ctx, with); err == nil {
		ask(ctx, "from "+inRedis, Sources{Models: with, Log: o.trial.log})
	}
	cancel()
	return errors.Join(err, <-done)
}

// awaitDocuments waits until the models have found the documents, if there are any: until then everything is asked of PostgreSQL.
func (o *outcome) awaitDocuments(ctx context.Context, models *projector.Models) error {
	events, _ := o.trial.history.known()
	for _, s := range o.singly().stored {
		at := slices.IndexFunc(events, func(e es.Event) bool { return e.Partition == s.Partition })
		if s.Table != "" || at < 0 {
			continue
		}
		for {
			found, err := models.Documents(ctx, o.singly().projection.Name, []projector.DocKey{{Stream: events[at].Stream, Key: s.Key}})
			if err != nil || found[0] != nil {
				return err
			}
			if err := pause(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare returns the difference, if there is one, as a list.
func compare(what string, want, got any) []string {
	everyField := cmp.Exporter(func(reflect.Type) bool { return true })
	if diff := cmp.Diff(want, got, everyField, cmpopts.EquateEmpty()); diff != "" {
		return []string{fmt.Sprintf("%s (- wanted, + got):\n%s", what, diff)}
	}
	return nil
}
