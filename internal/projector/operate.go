package projector

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// OperatorError says why an event cannot be parked or retried. It is for the operator to read.
type OperatorError struct {
	// NoProjection is whether there is no projection of that name; otherwise the position is not one to do this with.
	NoProjection bool
	Message      string
}

func (e *OperatorError) Error() string { return e.Message }

// fedBy joins the generations that workers feed to a table t of a projection's generations. Its arguments 1, 2 and 3 are the
// projection, the log and its epoch.
const fedBy = ` JOIN projections g ON g.name = t.projection AND g.generation = t.generation AND ` + isFed + `
	AND (g.log_id, g.log_epoch) = ($2::uuid, $3)
	WHERE t.projection = $1 AND `

const (
	parkStanding = `INSERT INTO parked_events AS k
		(projection, generation, store, stream, partition, position, type, error, attempts, failed_at)
		SELECT t.projection, t.generation, t.store, t.stream, t.partition, t.position, t.type, t.error, t.attempts, t.failed_at
		FROM projection_failures t` + fedBy + `t.position = $4
		ON CONFLICT (projection, generation, store, stream) DO UPDATE SET position = excluded.position, type = excluded.type,
		  error = excluded.error, attempts = excluded.attempts, failed_at = excluded.failed_at, parked_at = now(), retry_asked = false`
	retryStanding = `UPDATE projection_failures f SET retry_asked = true FROM projection_failures t` + fedBy + `t.position = $4
		AND (f.projection, f.generation, f.store, f.partition) = (t.projection, t.generation, t.store, t.partition)`
	retryParked = `UPDATE parked_events k SET retry_asked = true FROM parked_events t` + fedBy + `t.position = $4
		AND (k.projection, k.generation, k.store, k.stream) = (t.projection, t.generation, t.store, t.stream)`
)

// Park sets an event aside at which partitions of a projection stand still, in every store that it stops: they go on, and
// the later events of its stream wait behind it. Workers do so in a moment; see [Models.Outcome]. It returns an
// [*OperatorError] if no partition stands still there.
func (m *Models) Park(ctx context.Context, projection string, position int64) error {
	return m.operate(ctx, projection, position, "parking", parkStanding)
}

// Retry has an event tried again now: one that partitions of a projection stand still at, without waiting for the next
// attempt, or one that is parked, with what waits behind it. Workers do so in a moment; see [Models.Outcome]. It returns an
// [*OperatorError] if the projection neither stands still there nor has parked it.
func (m *Models) Retry(ctx context.Context, projection string, position int64) error {
	return m.operate(ctx, projection, position, "retrying", retryStanding, retryParked)
}

func (m *Models) operate(ctx context.Context, projection string, position int64, what string, statements ...string) error {
	if err := m.known(projection); err != nil {
		return err
	}
	found := false
	err := pgx.BeginFunc(ctx, m.primary.pool, func(tx pgx.Tx) error {
		for _, statement := range statements {
			tag, err := tx.Exec(ctx, statement, projection, m.o.Info.ID, m.o.Info.Epoch, position)
			if err != nil {
				return err
			}
			found = found || tag.RowsAffected() > 0
		}
		return nil
	})
	if err == nil && !found {
		return m.nothingThere(ctx, projection, position)
	}
	if err != nil {
		return fmt.Errorf("projector: %s position %d of %s: %w", what, position, projection, err)
	}
	return nil
}

func (m *Models) known(projection string) error {
	if m.byName[projection] != nil {
		return nil
	}
	return &OperatorError{NoProjection: true, Message: fmt.Sprintf("there is no projection %q; there are %s",
		projection, strings.Join(m.projectionNames(), ", "))}
}

// nothingThere says what there is instead.
func (m *Models) nothingThere(ctx context.Context, projection string, position int64) error {
	o, err := m.Outcome(ctx, projection, position)
	if err != nil {
		return err
	}
	var standing []string
	rows, err := m.primary.pool.Query(ctx, `SELECT DISTINCT t.position, t.position || ' (' || t.type || ' of ' || t.stream || ')'
		FROM projection_failures t`+fedBy+`true ORDER BY t.position LIMIT 10`, projection, m.o.Info.ID, m.o.Info.Epoch)
	if err == nil {
		var text string
		var at int64
		_, err = pgx.ForEachRow(rows, []any{&at, &text}, func() error {
			standing = append(standing, text)
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("projector: looking for what stopped %s: %w", projection, err)
	}
	instead := "no partition of it stands still"
	if len(standing) > 0 {
		instead = "it stands still at " + strings.Join(standing, ", ")
	}
	message := fmt.Sprintf("%s does not stand still at position %d; %s", projection, position, instead)
	switch {
	case len(o.Parked) > 0 && o.Parked[0].Position == position:
		message = fmt.Sprintf("position %d is parked in %s already", position, projection)
	case len(o.Parked) > 0 && o.Parked[0].Position < position:
		message = fmt.Sprintf("position %d waits in %s behind position %d of its stream, which is parked: retry that one",
			position, projection, o.Parked[0].Position)
	case o.Stream == "":
		message = fmt.Sprintf("the log has no event at position %d; of %s, %s", position, projection, instead)
	}
	return &OperatorError{Message: message}
}

// Outcome is what has become of an event that was parked or retried.
type Outcome struct {
	// Stream is the event's; "" if there is no such event.
	Stream string
	// Pending is whether no worker has done yet what was asked for.
	Pending bool
	// Stopped is the error at which partitions stand still at the event, "" if none does.
	Stopped string
	// Parked are what is parked of the event's stream, the first event first.
	Parked []ParkedEvent
}

// Outcome tells how things stand with an event in a projection.
func (m *Models) Outcome(ctx context.Context, projection string, position int64) (o Outcome, err error) {
	if err := m.known(projection); err != nil {
		return o, err
	}
	if o.Parked, err = m.Parked(ctx, projection); err != nil {
		return o, err
	}
	var asked bool
	err = m.primary.pool.QueryRow(ctx, `SELECT coalesce((SELECT stream FROM events WHERE position = $4), ''),
		coalesce(max(t.error), ''), coalesce(bool_or(t.retry_asked), false) FROM projection_failures t`+fedBy+`t.position = $4`,
		projection, m.o.Info.ID, m.o.Info.Epoch, position).Scan(&o.Stream, &o.Stopped, &asked)
	if err != nil {
		return o, fmt.Errorf("projector: looking for position %d of %s: %w", position, projection, err)
	}
	o.Parked = slices.DeleteFunc(o.Parked, func(e ParkedEvent) bool { return e.Stream != o.Stream })
	o.Pending = asked || o.Stopped != "" && len(o.Parked) > 0 ||
		slices.ContainsFunc(o.Parked, func(e ParkedEvent) bool { return e.Retrying })
	return o, nil
}

// Parked lists the parked events of the generations that workers feed, by projection and position; without names those
// of all projections.
func (m *Models) Parked(ctx context.Context, projections ...string) ([]ParkedEvent, error) {
	for _, name := range projections {
		if err := m.known(name); err != nil {
			return nil, err
		}
	}
	if len(projections) == 0 {
		projections = m.projectionNames()
	}
	list := []ParkedEvent{}
	err := m.onServers(ctx, m.primaryFirst(), func(ctx context.Context, s *server) error {
		rows, err := s.pool.Query(ctx, `SELECT k.projection, k.generation, k.store, k.partition, k.position, k.stream, k.type, k.error,
			  k.attempts, k.parked_at, k.failed_at, k.retry_asked,
			  (SELECT count(*) FROM events e WHERE e.stream = k.stream AND e.position > k.position)
			FROM parked_events k
			JOIN projections g ON g.name = k.projection AND g.generation = k.generation AND `+isFed+`
			  AND (g.log_id, g.log_epoch) = ($2::uuid, $3)
			WHERE k.projection = ANY ($1) ORDER BY k.projection, k.position, k.generation, k.store`,
			projections, m.o.Info.ID, m.o.Info.Epoch)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e ParkedEvent, err error) {
			return e, row.Scan(&e.Projection, &e.Generation, &e.Store, &e.Partition, &e.Position, &e.Stream, &e.Type, &e.Error,
				&e.Attempts, &e.ParkedAt, &e.FailedAt, &e.Retrying, &e.Waiting)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("projector: listing parked events: %w", err)
	}
	return list, nil
}
