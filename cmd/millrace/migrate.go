package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/migrations"
)

// Defaults of what is fixed with a log when it is created.
const (
	defaultCurrency = "GBP"
	defaultTimeZone = "Europe/London"
)

// migrateCommand brings a database to this release's schema.
type migrateCommand struct {
	logFlags
	Partitions int `default:"16" help:"Number of partitions of a log that does not exist yet, 1 to 256."`
}

// Run migrates and returns.
func (c *migrateCommand) Run(ctx context.Context, out *console) error {
	if c.Partitions < 1 || c.Partitions > 256 {
		return usageError{fmt.Errorf("--partitions must be from 1 to 256, not %d", c.Partitions)}
	}
	if _, err := c.resolve(); err != nil {
		return err
	}
	if err := migrate(ctx, c.DatabaseURL, c.shopFlags, c.Partitions); err != nil {
		return err
	}
	fmt.Fprintf(out.out, "The database is at schema version %d.\n", migrations.Version)
	return nil
}

// migrate migrates the database and creates the log unless it exists.
func migrate(ctx context.Context, databaseURL string, f shopFlags, partitions int) error {
	if err := migrations.Up(ctx, databaseURL); err != nil {
		return err
	}
	err := migrations.Init(ctx, databaseURL, migrations.Settings{
		Partitions: partitions, Currency: f.Currency, TimeZone: f.TimeZone,
		DefaultCurrency: defaultCurrency, DefaultTimeZone: defaultTimeZone,
	})
	if settings := (*migrations.SettingsError)(nil); errors.As(err, &settings) {
		return usageError{err}
	}
	return err
}
