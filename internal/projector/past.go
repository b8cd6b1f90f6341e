package projector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/jackc/pgx/v5"
)

// pastSuffix is what a model of the past is called by, behind the projection's name: its generations are positions, and so
// "orders_at_5000" is the schema of the orders as they were at position 5000.
const pastSuffix = "_at"

// sqlName is what the projection's SQL calls its schema.
func (p *Projection) sqlName() string { return cmp.Or(p.model, p.Name) }

// PastModel is a model as it was at a position, kept for inspection until it is dropped.
type PastModel struct {
	// Name is the projection's; Version is that of its tables.
	Name    string `json:"name"`
	Version int    `json:"version"`
	// Position is the last one that the model shows.
	Position int64 `json:"position"`
	// Schema has the tables, which are named with it; "" if the projection has none. Documents is what the Redis keys of its documents
	// begin with, "" if it has none.
	Schema    string    `json:"schema,omitempty"`
	Tables    []string  `json:"tables,omitempty"`
	Documents string    `json:"documents,omitempty"`
	BuiltAt   time.Time `json:"builtAt"`
}

// ErrNoPosition is wrapped by the error about a position or time that the log does not reach.
var ErrNoPosition = errors.New("the log does not reach that far")

// Past builds each projection as it was at a position, under another name: nobody feeds the models, and no reader of the shop sees
// them. One that is there already is built anew. The errors are those of [Replay], and one that wraps [ErrNoPosition].
func Past(ctx context.Context, o ReplayOptions, until int64) ([]PastModel, Result, error) {
	head, err := o.Log.Head(ctx)
	if err != nil {
		return nil, Result{}, err
	}
	if until < 1 || until > min(head, math.MaxInt32) {
		return nil, Result{}, fmt.Errorf("position %d; the log has positions 1 to %d: %w", until, head, ErrNoPosition)
	}
	if err := validateAll(o.Projections); err != nil {
		return nil, Result{}, err
	}
	then := make([]Projection, len(o.Projections))
	for i, p := range o.Projections {
		then[i] = p
		then[i].Name, then[i].model = p.Name+pastSuffix, p.Name
	}
	o.Projections = then
	result, err := indexesLast(ctx, o, func(ctx context.Context, o ReplayOptions) (Result, error) { return replayUntil(ctx, o, until) })
	if err != nil {
		return nil, result, err
	}
	models, err := PastModels(ctx, o)
	return slices.DeleteFunc(models, func(m PastModel) bool { return m.Position != until }), result, err
}

func replayUntil(ctx context.Context, o ReplayOptions, until int64) (Result, error) {
	b, err := openBuild(ctx, o)
	if err != nil {
		return Result{}, err
	}
	if err = b.preparePast(ctx, int(until)); err == nil {
		err = b.reported(ctx, func(ctx context.Context) error { return b.past(ctx, until) })
	}
	return Result{Events: b.events.Load(), Generations: b.generations}, errors.Join(err, b.end(ctx, err != nil))
}

// preparePast makes the tables, in the place of those that are there.
func (b *build) preparePast(ctx context.Context, number int) error {
	for i := range b.o.Projections {
		p := &b.o.Projections[i]
		if err := dropPast(ctx, b.o, p.Name, number); err != nil {
			return err
		}
		err := pgx.BeginFunc(ctx, b.o.Pool, func(tx pgx.Tx) error {
			if err := lockGenerations(ctx, tx, b.o.Info, p.Name); err != nil {
				return err
			}
			return createNumbered(ctx, tx, b.o.Info, p, number, statusBuilding, &b.owner)
		})
		if err != nil {
			return fmt.Errorf("projector: preparing the tables of %s: %w", p.Name, err)
		}
		b.fill(p, number)
		if err := b.prepareIndexes(ctx, p, number); err != nil {
			return err
		}
	}
	return nil
}

// past fills the models.
func (b *build) past(ctx context.Context, until int64) error {
	if err := b.rebuilder.fold(ctx, b.sinks, 0, until); err != nil {
		return err
	}
	if err := b.complete(ctx); err != nil {
		return err
	}
	for i := range b.o.Projections {
		p := &b.o.Projections[i]
		if err := b.check(ctx, b.sinksOf(p), until); err != nil {
			return err
		}
		tag, err := b.o.Pool.Exec(ctx, `UPDATE projections SET status = 'past', owner = NULL, switched_at = now()
			WHERE name = $1 AND generation = $2 AND owner = $3`, p.Name, until, b.owner)
		if err == nil && tag.RowsAffected() == 0 {
			err = ErrReplaying // this one has lost its lock
		}
		if err != nil {
			return fmt.Errorf("projector: finishing %s: %w", p.Name, err)
		}
		b.switched[p.Name] = true
	}
	return nil
}

// PastModels lists the models of the past of the projections.
func PastModels(ctx context.Context, o ReplayOptions) ([]PastModel, error) {
	list := []PastModel{}
	for i := range o.Projections {
		p := &o.Projections[i]
		rows, err := o.Pool.Query(ctx, `SELECT version, generation, switched_at, tables FROM projections WHERE name = $1 AND status = 'past'
			AND (log_id, log_epoch) = ($2::uuid, $3) ORDER BY generation`, p.sqlName()+pastSuffix, o.Info.ID, o.Info.Epoch)
		if err != nil {
			return nil, fmt.Errorf("projector: listing models of the past: %w", err)
		}
		found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (PastModel, error) {
			m := PastModel{Name: p.sqlName()}
			err := row.Scan(&m.Version, &m.Position, &m.BuiltAt, &m.Tables)
			slices.Sort(m.Tables)
			if p.Postgres != nil {
				m.Schema = schemaName(m.Name+pastSuffix, int(m.Position))
			}
			if p.Redis != nil {
				m.Documents = "mr:" + newRedisKeys(o.Info, m.Name+pastSuffix, int(m.Position)).prefix
			}
			return m, err
		})
		if err != nil {
			return nil, fmt.Errorf("projector: listing models of the past: %w", err)
		}
		list = append(list, found...)
	}
	return list, nil
}

// DropPast drops the models of the past of the projections, at one position or, where it is 0, at all, and returns them.
func DropPast(ctx context.Context, o ReplayOptions, position int64) ([]PastModel, error) {
	all, err := PastModels(ctx, o)
	if err != nil {
		return nil, err
	}
	dropped := []PastModel{}
	for _, m := range all {
		if position != 0 && m.Position != position {
			continue
		}
		if err := dropPast(ctx, o, m.Name+pastSuffix, int(m.Position)); err != nil {
			return dropped, err
		}
		dropped = append(dropped, m)
	}
	return dropped, nil
}

// dropPast drops a model of the past, or what a process has left that was killed while it built one.
func dropPast(ctx context.Context, o ReplayOptions, name string, number int) error {
	for _, status := range []string{"past", statusBuilding, statusDropped} {
		if err := dropGeneration(ctx, o.Pool, o.Redis, name, oldGeneration{number: number, status: status, info: o.Info}); err != nil {
			return err
		}
	}
	_, err := o.Pool.Exec(ctx, `DELETE FROM projections WHERE name = $1 AND generation = $2 AND status = 'dropped'`, name, number)
	if err != nil {
		return fmt.Errorf("projector: dropping %s at position %d: %w", name, number, err)
	}
	return nil
}

// PositionAt returns the position of the last event that was recorded up to a time. It returns an error that wraps
// [ErrNoPosition] if there is none.
func PositionAt(ctx context.Context, log Log, at time.Time) (int64, error) {
	head, err := log.Head(ctx)
	if err != nil {
		return 0, err
	}
	// The time of recording never decreases with the position.
	var first time.Time
	position := sort.Search(int(head), func(i int) bool {
		if err != nil {
			return true
		}
		events, readErr := log.ReadAll(ctx, int64(i), 1)
		if readErr == nil && len(events) == 0 {
			readErr = fmt.Errorf("projector: the log has no event behind position %d", i)
		}
		if err = readErr; err != nil {
			return true
		}
		first = events[0].RecordedAt // as long as it is the first that is too late
		return first.After(at)
	})
	if err != nil {
		return 0, err
	}
	switch {
	case position == 0 && head == 0:
		return 0, fmt.Errorf("nothing has been recorded yet: %w", ErrNoPosition)
	case position == 0: // and the search has ended with the first event
		return 0, fmt.Errorf("nothing was recorded up to %s; the first event was at %s, whenever it occurred: %w",
			at.Format(time.RFC3339), first.UTC().Format(time.RFC3339), ErrNoPosition)
	}
	return int64(position), nil
}
