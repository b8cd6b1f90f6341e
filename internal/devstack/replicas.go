package devstack

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// replayPoll is how often a replica is asked whether it stands still yet.
const replayPoll = 5 * time.Millisecond

// PauseReplay makes the i-th replica, counted from 0, stand still: it goes on answering, and shows nothing of what the
// primary commits after PauseReplay has returned, until ResumeReplay.
func (s *Stack) PauseReplay(ctx context.Context, i int) error {
	return s.onReplica(ctx, i, "pausing", func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, `SELECT pg_wal_replay_pause()`); err != nil {
			return err
		}
		ticker := time.NewTicker(replayPoll)
		defer ticker.Stop()
		for {
			var paused bool
			err := conn.QueryRow(ctx, `SELECT pg_get_wal_replay_pause_state() = 'paused'`).Scan(&paused)
			if err != nil || paused {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-ticker.C:
			}
		}
	})
}

// ResumeReplay lets the i-th replica go on from where PauseReplay has stopped it.
func (s *Stack) ResumeReplay(ctx context.Context, i int) error {
	return s.onReplica(ctx, i, "resuming", func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `SELECT pg_wal_replay_resume()`)
		return err
	})
}

// DelayReplay makes the i-th replica show each commit only when it is so old, in whole milliseconds; 0 is at once.
func (s *Stack) DelayReplay(ctx context.Context, i int, by time.Duration) error {
	return s.onReplica(ctx, i, "delaying", func(conn *pgx.Conn) error {
		for _, statement := range []string{
			// Settings take no parameters; this is a number.
			fmt.Sprintf(`ALTER SYSTEM SET recovery_min_apply_delay = '%dms'`, by.Milliseconds()), `SELECT pg_reload_conf()`,
		} {
			if _, err := conn.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// Promote makes the i-th replica a primary of its own, which goes on from what it has.
func (s *Stack) Promote(ctx context.Context, i int) error {
	return s.onReplica(ctx, i, "promoting", func(conn *pgx.Conn) error {
		var promoted bool
		if err := conn.QueryRow(ctx, `SELECT pg_promote()`).Scan(&promoted); err != nil {
			return err
		}
		if !promoted {
			return errors.New("it takes longer than a minute")
		}
		return nil
	})
}

// onReplica runs do as a superuser of the i-th replica.
func (s *Stack) onReplica(ctx context.Context, i int, doing string, do func(*pgx.Conn) error) error {
	server := s.replicas[i]
	conn, err := pgx.Connect(ctx, server.flavor.(*postgresServer).adminURL(server.portNumber()))
	if err == nil {
		err = errors.Join(do(conn), conn.Close(context.WithoutCancel(ctx)))
	}
	if err != nil {
		return fmt.Errorf("devstack: %s the %s: %w", doing, server.name, err)
	}
	return nil
}
