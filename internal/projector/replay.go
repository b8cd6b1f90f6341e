package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
)

// ReplayOptions are the parts of Replay and Verify.
type ReplayOptions struct {
	// Pool is the primary. A rebuild takes one connection, one for each projection with tables, and two for reading.
	Pool *pgxpool.Pool
	// Redis is needed by projections that keep documents.
	Redis redis.UniversalClient
	Log   Log
	// Codec tells why an event could not be decoded; nil: only that it could not.
	Codec *es.Codec
	Info  es.Log
	// Projections are those to rebuild.
	Projections []Projection
	// Progress, if not nil, is called about ten times a second, by one goroutine at a time.
	Progress func(Progress)
	// Logger is nil for slog.Default.
	Logger *slog.Logger

	indexed bool // tables have their indexes from the beginning: see indexesLast
}

// Result is what a Replay did.
type Result struct {
	// Events is the number of events read. Those read for several projections at once count once.
	Events  int64
	Elapsed time.Duration
	// Generations are the new generations by projection.
	Generations map[string]int
	// Parked are the events that still cannot be applied, and that the new generations go without as those before did.
	Parked []ParkedEvent
}

// ErrReplaying says that another rebuild of a projection is under way.
var ErrReplaying = errors.New("another rebuild of this projection is under way")

// Replay builds a new generation of each projection from the beginning of the log, beside the live one, while
// commands and queries go on, checks it, and switches to it when it has caught up. The generation before stays for [Rollback],
// and workers go on feeding it, until the next replay. A replay that was killed leaves the live generation as it was, or has
// switched; the next one drops what it left behind. It returns an error wrapping [ErrReplaying] if another one is under way, and one that names the
// event if there is an event that cannot be applied. One that an operator has parked in the generation before is tried, and
// parked in the new one if it still cannot be applied.
func Replay(ctx context.Context, o ReplayOptions) (Result, error) { return indexesLast(ctx, o, replay) }

// indexesLast rebuilds, and once more if what was folded does not go into an index, which live generations have from the beginning: there the event that
// is to blame cannot be applied, and so it is named, or parked if it was parked before.
func indexesLast(ctx context.Context, o ReplayOptions, rebuild func(context.Context, ReplayOptions) (Result, error)) (Result, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	began := time.Now()
	result, err := rebuild(ctx, o)
	if _, ok := errors.AsType[*indexError](err); ok {
		o.Logger.WarnContext(ctx, "an index cannot be made of what was rebuilt; rebuilding with the indexes from the beginning, which takes longer", "error", err)
		o.indexed = true
		result, err = rebuild(ctx, o)
	}
	result.Elapsed = time.Since(began)
	return result, err
}

func replay(ctx context.Context, o ReplayOptions) (Result, error) {
	b, err := beginBuild(ctx, o, true)
	if err != nil {
		return Result{}, err
	}
	err = b.reported(ctx, func(ctx context.Context) error {
		if err := b.bulk(ctx); err != nil {
			return err
		}
		for i := range o.Projections {
			if err := b.approach(ctx, &o.Projections[i]); err != nil {
				return err
			}
			if err := b.switchOver(ctx, &o.Projections[i]); err != nil {
				return err
			}
		}
		return nil
	})
	result := Result{Events: b.events.Load(), Generations: b.generations, Parked: parkedIn(b.sinks)}
	if err == nil {
		err = b.sweep(ctx)
	}
	return result, errors.Join(err, b.end(ctx, err != nil))
}

// build is a rebuild of several projections under way.
type build struct {
	rebuilder
	o           ReplayOptions
	replacing   bool
	owner       string        // of the generations that it fills, and of no other's
	conn        *pgxpool.Conn // holds a lock on each projection, which ends with this process
	generations map[string]int
	switched    map[string]bool
	folded      int64
	sharing     atomic.Pointer[sharing] // nil: nobody helps now
}

// openBuild takes the locks.
func openBuild(ctx context.Context, o ReplayOptions) (_ *build, err error) {
	if len(o.Projections) == 0 {
		return nil, errors.New("projector: no projection to rebuild")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	b := &build{o: o, owner: processName() + "/" + uuid.NewString(), generations: make(map[string]int), switched: make(map[string]bool)}
	b.log = o.Log
	if b.conn, err = o.Pool.Acquire(ctx); err != nil {
		return nil, fmt.Errorf("projector: connecting for a rebuild: %w", err)
	}
	for i := range o.Projections {
		if err = b.lock(ctx, &o.Projections[i]); err != nil {
			return nil, errors.Join(err, b.end(ctx, true))
		}
	}
	if err = b.clearShares(ctx); err != nil {
		return nil, errors.Join(err, b.end(ctx, true))
	}
	return b, nil
}

// beginBuild takes the locks, drops what rebuilds that were killed left, and makes new generations, which may replace the live
// ones or not.
func beginBuild(ctx context.Context, o ReplayOptions, replacing bool) (*build, error) {
	if err := validateAll(o.Projections); err != nil {
		return nil, err
	}
	b, err := openBuild(ctx, o)
	if err != nil {
		return nil, err
	}
	b.replacing = replacing
	// What is dropped and made are files: side by side it takes as long as the slowest, and not a tenth of a rebuild.
	numbers := make([]int, len(o.Projections))
	var group errgroup.Group
	for i := range o.Projections {
		group.Go(func() (err error) {
			numbers[i], err = b.prepare(ctx, &o.Projections[i])
			return err
		})
	}
	err = group.Wait()
	for i := range o.Projections {
		if numbers[i] > 0 {
			b.fill(&o.Projections[i], numbers[i])
		}
	}
	if err != nil {
		return nil, errors.Join(err, b.end(ctx, true))
	}
	return b, nil
}

// lock makes this the only rebuild of a projection, until its connection ends.
func (b *build) lock(ctx context.Context, p *Projection) error {
	if p.Redis != nil && b.o.Redis == nil {
		return fmt.Errorf("projector: projection %s keeps documents, and there is no Redis", p.Name)
	}
	var locked bool
	err := b.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtextextended('millrace.rebuild.' || $1, 0))`, p.Name).Scan(&locked)
	switch {
	case err != nil:
		return fmt.Errorf("projector: locking %s: %w", p.Name, err)
	case !locked:
		return fmt.Errorf("projector: %s: %w", p.Name, ErrReplaying)
	}
	return nil
}

// prepare drops what is left of old generations of a projection and makes a new one, whose number it returns; 0 if there is none.
func (b *build) prepare(ctx context.Context, p *Projection) (number int, err error) {
	if err := ensureGeneration(ctx, b.o.Pool, b.o.Info, p); err != nil {
		return 0, err
	}
	if err := dropOld(ctx, b.o.Pool, b.o.Redis, b.o.Info, p, isLeftOver); err != nil {
		return 0, err
	}
	err = pgx.BeginFunc(ctx, b.o.Pool, func(tx pgx.Tx) (err error) {
		if err := lockGenerations(ctx, tx, b.o.Info, p.Name); err != nil {
			return err
		}
		number, err = createGeneration(ctx, tx, b.o.Info, p, statusBuilding, &b.owner)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("projector: preparing the tables of %s: %w", p.Name, err)
	}
	return number, b.prepareIndexes(ctx, p, number)
}

// prepareIndexes makes the indexes of tables that are empty yet, if that is not left to complete.
func (b *build) prepareIndexes(ctx context.Context, p *Projection, number int) error {
	if !b.o.indexed || p.Postgres == nil {
		return nil
	}
	return b.index(ctx, p, schemaName(p.Name, number))
}

// fill has the rebuild fill a generation.
func (b *build) fill(p *Projection, number int) {
	b.generations[p.Name] = number
	sinks := newSinks(&b.o, p, number, everyPartition(b.o.Info.Partitions))
	b.mayPark(sinks)
	b.sinks = append(b.sinks, sinks...)
}

// mayPark lets sinks go without what the generations before go without, if they must.
func (b *build) mayPark(sinks []*sink) {
	if !b.replacing {
		return
	}
	for _, s := range sinks {
		s.isParked = func(ctx context.Context, e *es.Event) (bool, error) {
			return isParkedBefore(ctx, b.o.Pool, s.projection.Name, s.generation, e)
		}
	}
}

// position is where the whole of the build has come to.
func (b *build) position() int64 {
	if s := b.sharing.Load(); s != nil {
		return s.position()
	}
	if len(b.sinks) == 0 {
		return 0
	}
	return b.rebuilder.position()
}

// parkedIn lists what new generations go without.
func parkedIn(sinks []*sink) []ParkedEvent {
	var all []ParkedEvent
	for _, s := range sinks {
		all = append(all, s.inherited...)
	}
	return all
}

func (b *build) sinksOf(p *Projection) []*sink {
	return slices.DeleteFunc(slices.Clone(b.sinks), func(s *sink) bool { return s.projection != p })
}

// sweep drops what readers have left and nobody goes back to.
func (b *build) sweep(ctx context.Context) error {
	var err error
	for i := range b.o.Projections {
		p := &b.o.Projections[i]
		err = errors.Join(err, dropOld(ctx, b.o.Pool, b.o.Redis, b.o.Info, p, isLeftOver+` OR `+isOutdated, p.Version))
	}
	return err
}

// closeEnough is how many events may be left for the switch, during which the live generation stands still.
const closeEnough = 2_000

// bulk folds until the end of the log is near.
func (b *build) bulk(ctx context.Context) error {
	for rounds := 0; ; rounds++ {
		head, err := b.log.Head(ctx)
		if err != nil {
			return err
		}
		if head-b.folded <= closeEnough && rounds > 0 || rounds > 20 {
			break
		}
		if err := b.share(ctx, head); err != nil {
			return err
		}
		if err := b.rebuilder.fold(ctx, b.sinks, b.folded, head); err != nil {
			return err
		}
		b.folded = head
	}
	return b.complete(ctx)
}

// roughStatistics is the statistics target of a new generation: enough to tell large tables from small ones and rare values from
// frequent ones. The server's own analysis, which takes ten times as long, comes after it by itself.
const roughStatistics = "10"

// complete makes the indexes of new tables, if they have none yet, and gives the planner figures of them, before the first query sees them. To sort the keys of
// a whole table costs a fraction of putting each in its place, for the primary and for each replica.
func (b *build) complete(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range b.sinks {
		if s.store.name() == storePostgres {
			group.Go(func() error {
				schema := schemaName(s.projection.Name, s.generation)
				if !b.o.indexed {
					if err := b.index(ctx, s.projection, schema); err != nil {
						return err
					}
				}
				return b.analyse(ctx, schema)
			})
		}
	}
	return group.Wait()
}

// indexTimeout bounds the making of one index.
const indexTimeout = time.Hour

// indexError says that an index cannot be made, because of the rows or of what it is.
type indexError struct{ error }

func (e *indexError) Unwrap() error { return e.error }

func (b *build) index(ctx context.Context, p *Projection, schema string) error {
	for i, ddl := range p.Postgres.Schema {
		if !isIndex(ddl) {
			continue
		}
		making, cancel := context.WithTimeout(ctx, indexTimeout)
		_, err := b.o.Pool.Exec(making, rewriteSchemas(ddl, map[string]string{p.sqlName(): schema}))
		cancel()
		if err != nil {
			state := sqlState(err)
			err = fmt.Errorf("projector: statement %d of the schema of %s: %w", i+1, p.Name, err)
			if state != "" && !serverAtFault(state) {
				err = &indexError{err}
			}
			return err
		}
	}
	return nil
}

func (b *build) analyse(ctx context.Context, schema string) error {
	tables, err := tablesOf(ctx, b.o.Pool, schema)
	if err != nil {
		return err
	}
	for _, t := range tables {
		name := pgx.Identifier{schema, t.name}.Sanitize()
		analysis := &pgx.Batch{}
		analysis.Queue(`SELECT set_config('default_statistics_target', $1, true)`, roughStatistics)
		analysis.Queue(`ANALYZE ` + name)
		if err := b.o.Pool.SendBatch(ctx, analysis).Close(); err != nil {
			return fmt.Errorf("projector: analysing %s: %w", name, err)
		}
	}
	return nil
}

// end gives the locks back, and drops what was not switched to.
func (b *build) end(ctx context.Context, failed bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), applyTimeout)
	defer cancel()
	for _, s := range b.sinks {
		s.store.discard(ctx) // dropping the tables would wait for their locks
	}
	err := b.unshare(ctx)
	for name, number := range b.generations {
		if failed && !b.switched[name] {
			// Only while it is being built, and by this rebuild: a switch whose answer was lost may have succeeded, and where the lock was lost another
			// rebuild may have made a model of the same position, which has the same number.
			own := oldGeneration{number: number, status: statusBuilding, owner: &b.owner, info: b.o.Info}
			err = errors.Join(err, dropGeneration(ctx, b.o.Pool, b.o.Redis, name, own))
		}
	}
	_, unlockErr := b.conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
	if unlockErr != nil {
		err = errors.Join(err, b.conn.Conn().Close(ctx)) // which ends the locks too
	}
	b.conn.Release()
	return err
}
