package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/es"
)

// keyFor returns the subject's key from the table, made together with those of all who are waiting.
func (v *Vault) keyFor(ctx context.Context, subject string) (*key, error) {
	v.mu.Lock()
	m, ok := v.waiting[subject]
	if !ok {
		m = &making{done: make(chan struct{})}
		v.waiting[subject] = m
	}
	v.mu.Unlock()
	for {
		select {
		case <-m.done:
			return m.key, m.err
		case v.turn <- struct{}{}:
			v.makeAll(ctx)
			<-v.turn
		case <-ctx.Done():
			return nil, fmt.Errorf("vault: waiting for a key: %w", context.Cause(ctx))
		}
	}
}

// makeAll makes the keys that are waited for at this moment. Others depend on it, so that it does not end with ctx.
func (v *Vault) makeAll(ctx context.Context) {
	v.mu.Lock()
	batch := v.waiting
	v.waiting = make(map[string]*making)
	v.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	subjects := make([]string, 0, len(batch))
	for s := range batch {
		subjects = append(subjects, s)
	}
	keys, err := v.readOrMake(ctx, subjects)
	for s, m := range batch {
		if m.key = keys[s]; m.key == nil {
			m.err = err
		}
		close(m.done)
	}
}

// attempts bounds the rounds of readOrMake. A second one is needed where a rival has made a key first, a third only where
// that was deleted at once.
const attempts = 4

// readOrMake returns the keys of all subjects, or an error.
func (v *Vault) readOrMake(ctx context.Context, subjects []string) (map[string]*key, error) {
	// Two processes that insert the same subjects in one order wait for each other, in two orders they would deadlock.
	slices.Sort(subjects)
	keys := make(map[string]*key, len(subjects))
	for range attempts {
		found, err := v.findOrInsert(ctx, subjects)
		if err != nil {
			return nil, err
		}
		for _, k := range found {
			keys[k.subject] = k
		}
		if subjects = slices.DeleteFunc(subjects, func(s string) bool { return keys[s] != nil }); len(subjects) == 0 {
			return keys, nil
		}
	}
	return nil, fmt.Errorf("vault: %d keys were deleted as often as they were made", len(subjects))
}

// findOrInsert returns the keys of the subjects. It makes those that are missing, in the order of the subjects; keys that a rival is making at the same
// time are left out.
func (v *Vault) findOrInsert(ctx context.Context, subjects []string) ([]*key, error) {
	ids, wrapped := make([]string, len(subjects)), make([][]byte, len(subjects))
	for i := range subjects {
		id, secret := newKey()
		ids[i], wrapped[i] = id, encrypt(v.master, secret, id)
	}
	// What is there is found by its index, however little the planner knows of the table yet.
	return v.read(ctx, v.pool, `
		WITH found AS MATERIALIZED (
		  SELECT id, subject, wrapped FROM subject_keys WHERE subject = ANY ($2)
		), made AS (
		  INSERT INTO subject_keys (id, subject, wrapped)
		  SELECT id, subject, wrapped
		  FROM unnest($1::text[], $2::text[], $3::bytea[]) WITH ORDINALITY AS new(id, subject, wrapped, place)
		  WHERE subject <> ALL (ARRAY(SELECT subject FROM found))
		  ORDER BY place
		  ON CONFLICT (subject) DO NOTHING
		  RETURNING id, subject, wrapped
		)
		SELECT id, subject, wrapped FROM found UNION ALL SELECT id, subject, wrapped FROM made`, ids, subjects, wrapped)
}

// read runs a query for rows of subject_keys, unwraps the keys and remembers them.
func (v *Vault) read(ctx context.Context, pool *pgxpool.Pool, sql string, args ...any) ([]*key, error) {
	asked := time.Now() // before the answer: a key deleted while it travels must not be trusted for longer than its time
	rows, err := pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("vault: reading keys: %w", classified(err))
	}
	var keys []*key
	var id, subject string
	var wrapped []byte
	_, err = pgx.ForEachRow(rows, []any{&id, &subject, &wrapped}, func() error {
		secret, err := decrypt(v.master, wrapped, id)
		if err != nil {
			return fmt.Errorf("key %s: %w", id, err)
		}
		aead, err := newAEAD(secret)
		if err != nil {
			return fmt.Errorf("key %s: %w", id, err)
		}
		keys = append(keys, &key{id: id, subject: subject, aead: aead, seen: asked})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("vault: reading keys: %w", classified(err))
	}
	for _, k := range keys {
		v.remember(k)
	}
	return keys, nil
}

// classified marks errors that say that the database cannot be had now: those of the connection, and those of a server
// that is going down, coming up, or no longer the primary.
func classified(err error) error {
	const operatorIntervention, readOnlyTransaction = "57", "25006"
	var pgErr *pgconn.PgError
	switch {
	case errors.Is(err, errDamaged):
		return err
	case errors.As(err, &pgErr) && !strings.HasPrefix(pgErr.Code, operatorIntervention) && pgErr.Code != readOnlyTransaction:
		return err
	}
	return fmt.Errorf("%w: %w", es.ErrUnavailable, err)
}
