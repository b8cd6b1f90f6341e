// Package migrations brings a database to the schema of the log and its control tables.
package migrations

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-migrate/migrate/v4"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

//go:embed *.sql
var files embed.FS

// Version is the schema that this binary works with.
const Version = 10

// Settings are fixed when a log is created.
type Settings struct {
	// Partitions is the number of partitions; 0 means 16.
	Partitions int
	// Currency is the shop's currency, ISO 4217. Empty: DefaultCurrency for a new log, whatever it is otherwise.
	Currency, DefaultCurrency string
	// TimeZone is the shop's time zone, an IANA name. Empty: as with Currency.
	TimeZone, DefaultTimeZone string
	// RangeSize is the number of positions in one range of the events table; 0 means 10,000,000.
	RangeSize int64
}

// Up migrates the database to Version. It is safe to call from several processes at once (a lock in the
// database), and again after it was killed: every migration runs in one transaction and may be run twice.
func Up(ctx context.Context, databaseURL string) error { return UpTo(ctx, databaseURL, Version) }

// UpTo is Up to an earlier version, as an earlier release would have left the database; 0 does nothing.
func UpTo(ctx context.Context, databaseURL string, version int) (err error) {
	if version == 0 {
		return nil
	}
	src, err := iofs.New(files, ".")
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	db, err := sql.Open("pgx/v5", databaseURL)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	driver, err := migratepgx.WithInstance(db, &migratepgx.Config{})
	if err != nil {
		return errors.Join(fmt.Errorf("migrations: connecting: %w", err), db.Close())
	}
	m, err := migrate.NewWithInstance("iofs", src, "pgx5", driver)
	if err != nil {
		return errors.Join(fmt.Errorf("migrations: %w", err), driver.Close())
	}
	defer func() {
		srcErr, dbErr := m.Close()
		err = errors.Join(err, srcErr, dbErr)
	}()
	stop := context.AfterFunc(ctx, func() { m.GracefulStop <- true })
	defer stop()
	return upOrResume(m, version)
}

// upOrResume migrates. A version marked dirty is one whose run was cut off, either before or after its one
// transaction committed; as every migration may run twice, it is run again.
func upOrResume(m *migrate.Migrate, to int) error {
	version, dirty, err := m.Version()
	if err != nil && !errors.Is(err, migrate.ErrNilVersion) {
		return fmt.Errorf("migrations: reading the schema's version: %w", err)
	}
	if int(version) > to {
		return nil // a newer release has migrated; it leaves this one working
	}
	if dirty {
		previous := int(version) - 1
		if previous == 0 {
			previous = -1 // how golang-migrate writes "none"
		}
		if err := m.Force(previous); err != nil {
			return fmt.Errorf("migrations: resuming version %d: %w", version, err)
		}
	}
	if err := m.Migrate(uint(to)); err != nil && !errors.Is(err, migrate.ErrNoChange) {
		return fmt.Errorf("migrations: %w", err)
	}
	return nil
}

// ErrOldSchema says that a database has not been migrated to what this release works with.
var ErrOldSchema = errors.New("the database's schema is older than this release; run millrace migrate")

// Check returns [ErrOldSchema] when the database has to be migrated first.
func Check(ctx context.Context, pool *pgxpool.Pool) error {
	var version int
	var dirty bool
	if err := pool.QueryRow(ctx, `SELECT version, dirty FROM schema_migrations`).Scan(&version, &dirty); err != nil {
		return fmt.Errorf("migrations: reading the schema's version: %w", err)
	}
	if version < Version || version == Version && dirty {
		return ErrOldSchema
	}
	return nil
}

// SettingsError says that a log was created with another setting than the one asked for now.
type SettingsError struct{ Setting, Log, Asked string }

func (e *SettingsError) Error() string {
	return fmt.Sprintf("this log was created with %s %s, which cannot be changed to %s", e.Setting, e.Log, e.Asked)
}

// Init creates the log's identity and first range unless they exist. It returns a [SettingsError] when they
// exist with another currency or time zone.
func Init(ctx context.Context, databaseURL string, s Settings) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("migrations: connecting: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if s.Partitions == 0 {
		s.Partitions = 16
	}
	if s.RangeSize == 0 {
		s.RangeSize = 10_000_000
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO log (partitions, currency, time_zone, range_size) VALUES ($1, $2, $3, $4)
			ON CONFLICT DO NOTHING`, s.Partitions, cmp.Or(s.Currency, s.DefaultCurrency), cmp.Or(s.TimeZone, s.DefaultTimeZone), s.RangeSize); err != nil {
			return fmt.Errorf("migrations: creating the log: %w", err)
		}
		var currency, timeZone string
		if err := tx.QueryRow(ctx, `SELECT currency, time_zone FROM log`).Scan(&currency, &timeZone); err != nil {
			return fmt.Errorf("migrations: reading the log's settings: %w", err)
		}
		if s.Currency != "" && !strings.EqualFold(currency, s.Currency) {
			return &SettingsError{Setting: "currency", Log: currency, Asked: s.Currency}
		}
		if s.TimeZone != "" && timeZone != s.TimeZone {
			return &SettingsError{Setting: "time zone", Log: timeZone, Asked: s.TimeZone}
		}
		if _, err := tx.Exec(ctx, `SELECT add_event_range() WHERE NOT EXISTS (SELECT FROM event_ranges)`); err != nil {
			return fmt.Errorf("migrations: creating the first range: %w", err)
		}
		return nil
	})
}
