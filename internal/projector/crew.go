package projector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// shareFrom is how many events a log must have for a rebuild to be shared: handing out takes longer than folding fewer.
const shareFrom = 50_000

// share is a part of a rebuild: some partitions, to be folded up to a position into the rebuild's generations.
type share struct {
	rebuild     string
	number      int
	projections []string // as workers name them: see taking
	generations []int
	partitions  []int
	until       int64
}

const shareColumns = `rebuild::text, share, projections, generations, partitions, until`

func scanShare(row pgx.CollectableRow) (s share, err error) {
	return s, row.Scan(&s.rebuild, &s.number, &s.projections, &s.generations, &s.partitions, &s.until)
}

// foldShare folds a share, from where its partitions are. Prepare, if not nil, sees the sinks before anything is folded, and
// position is set to what all of them have reached. It returns the sinks, for what they have parked.
func (o *ReplayOptions) foldShare(ctx context.Context, sh share, prepare func([]*sink), position *atomic.Int64) ([]*sink, error) {
	r := &rebuilder{log: o.Log, partitions: sh.partitions}
	for i, name := range sh.projections {
		at := slices.IndexFunc(o.Projections, func(p Projection) bool { return taking(&p) == name })
		r.sinks = append(r.sinks, newSinks(o, &o.Projections[at], sh.generations[i], sh.partitions)...)
	}
	if prepare != nil {
		prepare(r.sinks)
	}
	after := sh.until
	for _, s := range r.sinks {
		if err := s.resume(ctx, s.store); err != nil {
			return nil, err
		}
		after = min(after, slices.Min(s.checkpoints))
	}
	defer func() {
		for _, s := range r.sinks {
			s.store.discard(context.WithoutCancel(ctx))
		}
	}()
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				position.Store(r.position())
			}
		}
	})
	err := r.fold(ctx, r.sinks, after, sh.until)
	close(done)
	watching.Wait()
	return r.sinks, err
}

// sharing is a rebuild that workers help with, as the rebuild itself sees it.
type sharing struct {
	id     string
	shares int
	until  int64
	own    atomic.Int64 // how far the share has come that the rebuild folds itself
	others atomic.Int64 // the sum of how far the others have come
	most   atomic.Int64
}

// position is how far the shares have come on average. It does not go back when a worker is replaced.
func (s *sharing) position() int64 {
	raise(&s.most, (s.own.Load()+s.others.Load())/int64(s.shares))
	return s.most.Load()
}

// share divides what is to be folded up to a position among this process and the workers that help, if there are any, and
// returns when all of it is folded.
func (b *build) share(ctx context.Context, until int64) error {
	if !b.replacing || b.folded > 0 || until < shareFrom {
		return nil
	}
	helpers, err := b.helpers(ctx)
	if err != nil || helpers == 0 {
		return err
	}
	s := &sharing{id: uuid.NewString(), shares: min(helpers+1, b.o.Info.Partitions), until: until}
	if err := b.offer(ctx, s); err != nil {
		return err
	}
	b.head.Store(until)
	b.sharing.Store(s)
	b.o.Logger.InfoContext(ctx, "rebuild shared with workers", "shares", s.shares, "position", until)
	for {
		sh, open, err := b.claim(ctx, s)
		switch {
		case err != nil:
			return err
		case sh != nil:
			if err := b.foldOwn(ctx, s, *sh); err != nil {
				return err
			}
		case open == 0:
			return b.join(ctx, s)
		default:
			if err := b.awaitShares(ctx); err != nil {
				return err
			}
		}
	}
}

// helpers counts the workers that would take a share.
func (b *build) helpers(ctx context.Context) (n int, err error) {
	err = b.o.Pool.QueryRow(ctx, `SELECT count(*) FROM workers WHERE helps AND projections @> $1 AND seen_at > now() - $2::interval`,
		b.taken(), leaseTTL).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("projector: looking for workers that help with a rebuild: %w", err)
	}
	return n, nil
}

func (b *build) taken() []string {
	names := make([]string, len(b.o.Projections))
	for i := range b.o.Projections {
		names[i] = taking(&b.o.Projections[i])
	}
	return names
}

// offer writes the shares down: the partitions dealt out in turn.
func (b *build) offer(ctx context.Context, s *sharing) error {
	generations := make([]int, len(b.o.Projections))
	for i := range b.o.Projections {
		generations[i] = b.generations[b.o.Projections[i].Name]
	}
	_, err := b.o.Pool.Exec(ctx, `INSERT INTO rebuild_shares (rebuild, share, projections, generations, log_id, log_epoch, partitions, until)
		SELECT $1, n % $2, $3, $4, $5, $6, array_agg(n::smallint), $7 FROM generate_series(0, $8::integer - 1) AS n GROUP BY n % $2`,
		s.id, s.shares, b.taken(), generations, b.o.Info.ID, b.o.Info.Epoch, s.until, b.o.Info.Partitions)
	if err != nil {
		return fmt.Errorf("projector: offering shares of a rebuild: %w", err)
	}
	return nil
}

// claim takes a share that nobody has, or whose worker has fallen silent, for the rebuild itself; nil if there is none. It also
// returns how many are not folded yet, and notes how far they have come.
func (b *build) claim(ctx context.Context, s *sharing) (*share, int, error) {
	rows, err := b.o.Pool.Query(ctx, `UPDATE rebuild_shares SET worker = '', expires_at = 'infinity' WHERE (rebuild, share) = (
		SELECT rebuild, share FROM rebuild_shares WHERE rebuild = $1 AND NOT done AND (worker IS NULL OR expires_at < now())
		ORDER BY share LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING `+shareColumns, s.id)
	var claimed []share
	if err == nil {
		claimed, err = pgx.CollectRows(rows, scanShare)
	}
	var open, sum int64
	if err == nil {
		err = b.o.Pool.QueryRow(ctx, `SELECT count(*) FILTER (WHERE NOT done), coalesce(sum(position), 0)::bigint
			FROM rebuild_shares WHERE rebuild = $1`, s.id).Scan(&open, &sum)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("projector: looking at the shares of a rebuild: %w", err)
	}
	s.others.Store(sum)
	if len(claimed) == 0 {
		return nil, int(open), nil
	}
	return &claimed[0], int(open), nil
}

// foldOwn folds a share in this process.
func (b *build) foldOwn(ctx context.Context, s *sharing, sh share) error {
	sinks, err := b.o.foldShare(ctx, sh, b.mayPark, &s.own)
	if err != nil {
		return err
	}
	for _, own := range sinks {
		for _, whole := range b.sinks {
			if whole.projection == own.projection && whole.store.name() == own.store.name() {
				whole.inherited = append(whole.inherited, own.inherited...)
			}
		}
	}
	s.own.Store(0)
	_, err = b.o.Pool.Exec(ctx, `UPDATE rebuild_shares SET done = true, position = until WHERE rebuild = $1 AND share = $2`, sh.rebuild, sh.number)
	if err != nil {
		return fmt.Errorf("projector: striking off a share of a rebuild: %w", err)
	}
	return nil
}

// awaitShares waits a moment for workers.
func (b *build) awaitShares(ctx context.Context) error {
	timer := time.NewTimer(progressEvery)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// join goes on from where the shares have ended, in one.
func (b *build) join(ctx context.Context, s *sharing) error {
	b.folded = s.until
	for _, whole := range b.sinks {
		if err := whole.resume(ctx, whole.store); err != nil {
			return err
		}
		reached := min(s.until, slices.Min(whole.checkpoints)) // less than the shares came to, where Redis has lost some of it since
		whole.position.Store(reached)
		b.folded = min(b.folded, reached)
	}
	b.events.Store(s.until)
	return b.unshare(ctx)
}

// unshare takes the shares back: workers that are still folding one stop.
func (b *build) unshare(ctx context.Context) error {
	s := b.sharing.Swap(nil)
	if s == nil {
		return nil
	}
	if _, err := b.o.Pool.Exec(ctx, `DELETE FROM rebuild_shares WHERE rebuild = $1`, s.id); err != nil {
		return fmt.Errorf("projector: taking the shares of a rebuild back: %w", err)
	}
	return nil
}

// clearShares takes away what rebuilds of these projections have left that were killed.
func (b *build) clearShares(ctx context.Context) error {
	names := make([]string, len(b.o.Projections))
	for i := range b.o.Projections {
		names[i] = b.o.Projections[i].Name
	}
	_, err := b.o.Pool.Exec(ctx, `DELETE FROM rebuild_shares WHERE EXISTS (
		SELECT FROM unnest(projections) AS taken WHERE split_part(taken, '@', 1) = ANY ($1))`, names)
	if err != nil {
		return fmt.Errorf("projector: taking back the shares of a rebuild that was killed: %w", err)
	}
	return nil
}

// helper takes shares of rebuilds for a worker, one at a time.
type helper struct {
	o      ReplayOptions
	worker string
	takes  []string
}

// run helps until ctx ends, and returns nil.
func (h *helper) run(ctx context.Context) error {
	ticker := time.NewTicker(leaseTick)
	defer ticker.Stop()
	trouble := backoff{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		sh, err := h.claim(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			if trouble.attempts == 0 {
				h.o.Logger.WarnContext(ctx, "worker cannot look for rebuilds to help with; it goes on trying", "worker", h.worker, "error", err)
			}
			trouble.pause(ctx)
		case sh != nil:
			h.help(ctx, *sh)
		}
		if err == nil {
			trouble.reset()
		}
	}
}

// claim takes a share that is offered; nil if there is none.
func (h *helper) claim(ctx context.Context) (*share, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseTTL)
	defer cancel()
	rows, err := h.o.Pool.Query(ctx, `UPDATE rebuild_shares SET worker = $1, expires_at = now() + $2::interval WHERE (rebuild, share) = (
		SELECT rebuild, share FROM rebuild_shares s WHERE NOT done AND offered AND (worker IS NULL OR expires_at < now())
		AND projections <@ $3 AND (log_id, log_epoch) = ($4::uuid, $5) AND `+isUnderWay+`
		ORDER BY rebuild, share LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING `+shareColumns,
		h.worker, leaseTTL, h.takes, h.o.Info.ID, h.o.Info.Epoch)
	if err != nil {
		return nil, err
	}
	claimed, err := pgx.CollectRows(rows, scanShare)
	if err != nil || len(claimed) == 0 {
		return nil, err
	}
	return &claimed[0], nil
}

// isUnderWay is whether the rebuild of the share s runs still: it holds the lock on its projections as long as it lives.
const isUnderWay = `EXISTS (SELECT FROM pg_locks l, hashtextextended('millrace.rebuild.' || split_part(s.projections[1], '@', 1), 0) AS key
	WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid::bigint << 32 | l.objid::bigint = key
	AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))`

// errTakenBack says that a share is not this worker's any more.
var errTakenBack = errors.New("the share was taken back")

// help folds a share, as long as the rebuild wants it.
func (h *helper) help(ctx context.Context, sh share) {
	folding, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var position atomic.Int64
	var renewing sync.WaitGroup
	renewing.Go(func() { h.renew(folding, cancel, sh, &position) })
	_, err := h.o.foldShare(folding, sh, nil, &position)
	takenBack := errors.Is(context.Cause(folding), errTakenBack)
	cancel(nil)
	renewing.Wait()
	result := `done = true, position = until`
	switch {
	case takenBack:
		h.o.Logger.InfoContext(ctx, "rebuild needs no more help", "worker", h.worker, "share", sh.number)
		return
	case ctx.Err() != nil: // this worker leaves
		result = `worker = NULL`
	case err != nil:
		h.o.Logger.WarnContext(ctx, "share of a rebuild failed; it is left to the rebuild", "worker", h.worker, "share", sh.number, "error", err)
		result = `worker = NULL, offered = false`
	}
	ending, stop := context.WithTimeout(context.WithoutCancel(ctx), handOver)
	defer stop()
	_, err = h.o.Pool.Exec(ending, `UPDATE rebuild_shares SET `+result+` WHERE rebuild = $1 AND share = $2 AND worker = $3 AND NOT done`,
		sh.rebuild, sh.number, h.worker)
	if err != nil {
		h.o.Logger.WarnContext(ctx, "share of a rebuild not given back; it expires", "worker", h.worker, "error", err)
	}
}

// renew keeps a share until ctx ends, and ends it when the share is not this worker's any more.
func (h *helper) renew(ctx context.Context, taken context.CancelCauseFunc, sh share, position *atomic.Int64) {
	ticker := time.NewTicker(leaseTick)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		bounded, cancel := context.WithTimeout(ctx, beatTimeout)
		began := time.Now()
		tag, err := h.o.Pool.Exec(bounded, `UPDATE rebuild_shares s SET expires_at = now() + $4::interval, position = $5
			WHERE rebuild = $1 AND share = $2 AND worker = $3 AND NOT done AND `+isUnderWay,
			sh.rebuild, sh.number, h.worker, leaseTTL, position.Load())
		cancel()
		switch {
		case err == nil && tag.RowsAffected() == 1:
			last = began
		case err == nil, time.Since(last) > leaseTTL:
			taken(errTakenBack)
			return
		}
	}
}
