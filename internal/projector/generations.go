package projector

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/es"
)

// Statuses of a generation. Workers feed all but those that were dropped, and those that a rebuild fills.
const (
	statusBuilding = "building"
	statusLive     = "live"
	statusPrevious = "previous" // read until the last switch, and kept for Rollback
	statusDropped  = "dropped"
)

// isFed is whether workers feed a generation.
const isFed = `owner IS NULL AND status IN ('live', 'building', 'previous')`

// generation is one build of a projection.
type generation struct {
	projection string
	number     int
	version    int
	status     string
	lost       bool // some of its tables or checkpoints are not there
}

// lockedSilence is how long the server hears nothing from a process that changes a projection's generations before it ends its transaction.
const lockedSilence = 5 * time.Second

// lockProjection makes changes to a projection's generations one after the other, until the transaction ends. All workers wait for it: a
// process that stalls meanwhile, or is cut off, does not hold them up for long.
func lockProjection(ctx context.Context, tx pgx.Tx, name string) error {
	_, err := tx.Exec(ctx, `SELECT set_config('idle_in_transaction_session_timeout', $2, true),
		pg_advisory_xact_lock(hashtextextended('millrace.projection.' || $1, 0))`, name, strconv.FormatInt(lockedSilence.Milliseconds(), 10))
	return err
}

// errOtherLog says that the database holds another log than this process works on.
var errOtherLog = errors.New("the log is another one, or in another epoch, than when this process started")

// lockGenerations is lockProjection for those who decide which generations count. A process that has slept over a restore
// is to leave those of the log as it is now alone: it gets errOtherLog.
func lockGenerations(ctx context.Context, tx pgx.Tx, info es.Log, name string) error {
	if err := lockProjection(ctx, tx, name); err != nil {
		return err
	}
	var same bool
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM log WHERE id = $1::uuid AND epoch = $2)`, info.ID, info.Epoch).Scan(&same)
	if err == nil && !same {
		err = errOtherLog
	}
	return err
}

// ensureGeneration makes sure that this version of the projection has a generation of this log that workers feed, with all
// its tables. A new one is live at once if the log is empty; otherwise readers see it when it is whole.
func ensureGeneration(ctx context.Context, pool *pgxpool.Pool, info es.Log, p *Projection) error {
	names, stores := storesOf(p)
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := lockGenerations(ctx, tx, info, p.Name); err != nil {
			return err
		}
		// Those of another log, or of this one before a restore, and those that somebody has deleted are set aside.
		if _, err := tx.Exec(ctx, `UPDATE projections p SET status = 'dropped' WHERE name = $1 AND status <> 'dropped'
			AND ((log_id, log_epoch) <> ($2::uuid, $3) OR version = $6 AND owner IS NULL AND `+isLost+`)`,
			p.Name, info.ID, info.Epoch, names, stores, p.Version); err != nil {
			return err
		}
		var fed, empty bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM projections WHERE name = $1 AND version = $2 AND owner IS NULL
			AND status IN ('live', 'building')), NOT EXISTS (SELECT FROM events)`, p.Name, p.Version).Scan(&fed, &empty); err != nil {
			return err
		}
		if fed {
			return nil
		}
		status := statusBuilding
		if empty {
			status = statusLive
		}
		_, err := createGeneration(ctx, tx, info, p, status, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("projector: preparing the tables of %s: %w", p.Name, err)
	}
	return nil
}

// isLost is whether tables or checkpoints of the generation p are not there. Its arguments 4 and 5 are those of storesOf.
const isLost = `(EXISTS (SELECT FROM unnest(p.tables) AS t WHERE to_regclass(t) IS NULL)
	OR EXISTS (SELECT FROM unnest($4::text[], $5::text[]) AS kept(projection, store) WHERE kept.projection = p.name
	  AND (SELECT count(*) FROM checkpoints c WHERE c.projection = p.name AND c.generation = p.generation AND c.store = kept.store)
	    < (SELECT partitions FROM log)))`

// storesOf lists the stores of a projection: its name and a store at each place.
func storesOf(p *Projection) (names, stores []string) {
	for _, s := range p.stores() {
		names, stores = append(names, p.Name), append(stores, s)
	}
	return names, stores
}

// createGeneration makes the schema, the tables and the checkpoints of the next generation. A number is not used again,
// even if somebody has deleted the control tables, or some of them.
func createGeneration(ctx context.Context, tx pgx.Tx, info es.Log, p *Projection, status string, owner *string) (int, error) {
	// What is there of generations that are not on the list is put on it, for the next rebuild to drop.
	if _, err := tx.Exec(ctx, `INSERT INTO projections (name, generation, version, status, log_id, log_epoch)
		SELECT $1, generation, $2, 'dropped', $3, $4 FROM (
		  SELECT generation FROM checkpoints WHERE projection = $1
		  UNION SELECT substring(nspname FROM '[0-9]+$')::integer FROM pg_namespace WHERE nspname ~ ('^' || $1 || '_[0-9]{1,9}$')
		) AS found ON CONFLICT DO NOTHING`, p.Name, p.Version, info.ID, info.Epoch); err != nil {
		return 0, err
	}
	var number int
	err := tx.QueryRow(ctx, `SELECT coalesce(max(generation), 0) + 1 FROM projections WHERE name = $1`, p.Name).Scan(&number)
	if err != nil {
		return 0, err
	}
	return number, createNumbered(ctx, tx, info, p, number, status, owner)
}

// createNumbered makes the schema, the tables and the checkpoints of a generation with a number that is free. One with an owner, which fills it in bulk, gets
// its indexes from that.
func createNumbered(ctx context.Context, tx pgx.Tx, info es.Log, p *Projection, number int, status string, owner *string) error {
	if _, err := tx.Exec(ctx, `INSERT INTO projections (name, generation, version, status, owner, log_id, log_epoch, switched_at)
		VALUES ($1, $2, $3, $4::text, $5, $6, $7, CASE WHEN $4 = 'live' THEN now() END)`,
		p.Name, number, p.Version, status, owner, info.ID, info.Epoch); err != nil {
		return err
	}
	for _, s := range p.stores() {
		if _, err := tx.Exec(ctx, `INSERT INTO checkpoints (projection, generation, store, partition)
			SELECT $1, $2, $3, generate_series(0, $4::integer - 1)`, p.Name, number, s, info.Partitions); err != nil {
			return err
		}
	}
	if p.Postgres == nil {
		return nil
	}
	schema := schemaName(p.Name, number)
	if _, err := tx.Exec(ctx, `CREATE SCHEMA `+schema); err != nil {
		return err
	}
	schemas := map[string]string{p.sqlName(): schema}
	for i, ddl := range p.Postgres.Schema {
		if owner != nil && isIndex(ddl) {
			continue
		}
		if _, err := tx.Exec(ctx, rewriteSchemas(ddl, schemas)); err != nil {
			return fmt.Errorf("statement %d of the schema: %w", i+1, err)
		}
	}
	_, err := tx.Exec(ctx, `UPDATE projections SET tables = (SELECT coalesce(array_agg(n.nspname || '.' || c.relname), '{}')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $3 AND c.relkind = 'r')
		WHERE name = $1 AND generation = $2`, p.Name, number, schema)
	return err
}

var indexPattern = regexp.MustCompile(`(?i)^\s*CREATE\s+INDEX\s`)

// isIndex reports whether a statement of a schema makes an index that finds rows. Such a one asks little of them, but it does: that they are not too long for
// it, and that its expressions have values. See indexesLast.
func isIndex(ddl string) bool { return indexPattern.MatchString(ddl) }

// oldGeneration is a generation to be dropped: the one with the number, if it has the status still.
type oldGeneration struct {
	number int
	status string
	owner  *string // if not nil, it has to have this owner too
	info   es.Log
}

// dropGeneration removes what a generation kept. Its row stays, so that its number is not used again.
func dropGeneration(ctx context.Context, pool *pgxpool.Pool, client redis.UniversalClient, name string, o oldGeneration) error {
	dropped := false
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := lockProjection(ctx, tx, name); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE projections SET status = 'dropped' WHERE name = $1 AND generation = $2 AND status = $3
			AND ($4::text IS NULL OR owner = $4)`, name, o.number, o.status, o.owner)
		if dropped = err == nil && tag.RowsAffected() > 0; !dropped {
			return err
		}
		for _, statement := range []string{
			`DELETE FROM projection_failures WHERE projection = $1 AND generation = $2`,
			`DELETE FROM parked_events WHERE projection = $1 AND generation = $2`,
		} {
			if _, err := tx.Exec(ctx, statement, name, o.number); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `DROP SCHEMA IF EXISTS `+schemaName(name, o.number)+` CASCADE`)
		return err
	})
	if err != nil {
		return fmt.Errorf("projector: dropping generation %d of %s: %w", o.number, name, err)
	}
	if !dropped {
		return nil
	}
	if client != nil {
		if err := newRedisKeys(o.info, name, o.number).drop(ctx, client, o.info.Partitions); err != nil {
			return err
		}
	}
	// Last: as long as it has checkpoints it is known that something of it may be left.
	if _, err := pool.Exec(ctx, `DELETE FROM checkpoints c USING projections p WHERE c.projection = $1 AND c.generation = $2
		AND p.name = c.projection AND p.generation = c.generation AND p.status = 'dropped'`, name, o.number); err != nil {
		return fmt.Errorf("projector: dropping generation %d of %s: %w", o.number, name, err)
	}
	return nil
}

// fedGenerations returns the generations that workers of these projections feed.
const fedGenerations = `SELECT name, generation, version, status, ` + isLost + ` FROM projections p
	WHERE ` + isFed + ` AND (log_id, log_epoch) = ($2::uuid, $3)
	AND name || '@' || version = ANY ($1) ORDER BY name, generation`

func scanGeneration(rows pgx.CollectableRow) (generation, error) {
	var g generation
	err := rows.Scan(&g.projection, &g.number, &g.version, &g.status, &g.lost)
	return g, err
}

// taking is how the tables of workers name a version of a projection.
func taking(p *Projection) string { return p.Name + "@" + strconv.Itoa(p.Version) }

// promoteBuilt makes a generation that workers have built live, when every partition of every store has reached its last event, or
// the position that the log ended at a moment ago, or stands still at an event that cannot be applied: the others are not to wait for it.
func promoteBuilt(ctx context.Context, pool *pgxpool.Pool, info es.Log, g generation, settled int64) (promoted bool, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := lockGenerations(ctx, tx, info, g.projection); err != nil { // not while a rebuild switches
			return err
		}
		tag, err := tx.Exec(ctx, promote, g.projection, g.number, g.version, settled)
		promoted = err == nil && tag.RowsAffected() == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("projector: switching to generation %d of %s: %w", g.number, g.projection, err)
	}
	return promoted, nil
}

const promote = `UPDATE projections SET status = 'live', switched_at = now()
	WHERE name = $1 AND generation = $2 AND status = 'building' AND owner IS NULL
	AND NOT EXISTS (SELECT FROM projections o WHERE o.name = $1 AND o.version = $3 AND o.status = 'live')
	AND NOT EXISTS (
		  SELECT FROM checkpoints c CROSS JOIN LATERAL (
		    SELECT position FROM events e WHERE e.partition = c.partition ORDER BY position DESC LIMIT 1) AS last
		  WHERE c.projection = $1 AND c.generation = $2 AND c.position < least(last.position, $4)
		  AND NOT EXISTS (SELECT FROM projection_failures f WHERE f.projection = c.projection AND f.generation = c.generation
		    AND f.store = c.store AND f.partition = c.partition AND f.position > c.position))`
