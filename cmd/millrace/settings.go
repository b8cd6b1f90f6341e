package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/internal/devstack"
)

// dataFlag names the directory of a running "millrace up".
type dataFlag struct {
	Data string `default:".millrace" env:"MILLRACE_DATA" placeholder:"DIR" help:"Data directory of millrace up; its servers are used unless --database-url names another shop's."`
}

// shopFlags are fixed with the log.
type shopFlags struct {
	Currency string `env:"MILLRACE_CURRENCY" placeholder:"GBP" help:"The shop's currency, ISO 4217; fixed with the log."`
	TimeZone string `name:"timezone" env:"MILLRACE_TIMEZONE" placeholder:"Europe/London" help:"The shop's time zone; fixed with the log."`
}

func (f shopFlags) check() error {
	if f.Currency != "" {
		if _, err := money.ParseCurrency(f.Currency); err != nil {
			return usageError{fmt.Errorf("--currency (MILLRACE_CURRENCY): %q is not the code of a currency, such as GBP", f.Currency)}
		}
	}
	if f.TimeZone != "" {
		if _, err := time.LoadLocation(f.TimeZone); err != nil {
			return usageError{fmt.Errorf("--timezone (MILLRACE_TIMEZONE): %w", err)}
		}
	}
	return nil
}

// aboveZero says what is wrong with a number or a time that has to be above zero.
func aboveZero[T int | time.Duration](setting string, value T) error {
	if value <= 0 {
		return usageError{fmt.Errorf("%s must be above zero, not %v", setting, value)}
	}
	return nil
}

// lagFlags say what is expected of read models.
type lagFlags struct {
	LagTarget time.Duration `default:"5s" env:"MILLRACE_LAG_TARGET" help:"Lag under which read models are to be kept: how many workers are wanted depends on it."`
}

func (f lagFlags) check() error {
	return aboveZero("--lag-target (MILLRACE_LAG_TARGET)", f.LagTarget)
}

// windowFlag bounds the copy of the log in JetStream.
type windowFlag struct {
	StreamWindow int64 `default:"0" env:"MILLRACE_STREAM_WINDOW" placeholder:"EVENTS" help:"How many events JetStream keeps, the newest; 0: all. The same for all relays of a shop."`
}

func (f windowFlag) check() error {
	if f.StreamWindow < 0 {
		return usageError{fmt.Errorf("--stream-window (MILLRACE_STREAM_WINDOW) must not be below zero, not %d", f.StreamWindow)}
	}
	return nil
}

// stateFlags bound what is kept in memory of streams that commands are decided on.
type stateFlags struct {
	StateCache int `default:"128" env:"MILLRACE_STATE_CACHE" placeholder:"MIB" help:"Memory in MiB, estimated, for the states of streams that commands are decided on."`
}

func (f stateFlags) check() error {
	return aboveZero("--state-cache (MILLRACE_STATE_CACHE)", f.StateCache)
}

// keyFlags say what becomes of idempotency keys.
type keyFlags struct {
	IdempotencyKept time.Duration `default:"24h" env:"MILLRACE_IDEMPOTENCY_KEPT" help:"How long a repeated idempotency key gets the first answer; the same for all processes of a shop."`
}

func (f keyFlags) check() error {
	return aboveZero("--idempotency-kept (MILLRACE_IDEMPOTENCY_KEPT)", f.IdempotencyKept)
}

// paymentFlags say how payments are dealt with.
type paymentFlags struct {
	PaymentDeadline time.Duration `default:"60s" env:"MILLRACE_PAYMENT_DEADLINE" help:"How long an order waits for its payment."`
}

func (f paymentFlags) check() error {
	return aboveZero("--payment-deadline (MILLRACE_PAYMENT_DEADLINE)", f.PaymentDeadline)
}

// writeFlags are the settings of what decides commands.
type writeFlags struct {
	stateFlags
	keyFlags
	paymentFlags
}

func (f writeFlags) check() error {
	return errors.Join(f.stateFlags.check(), f.keyFlags.check(), f.paymentFlags.check())
}

// logFlags name the log of one shop.
type logFlags struct {
	dataFlag
	shopFlags
	DatabaseURL string `env:"MILLRACE_DATABASE_URL" placeholder:"URL" help:"PostgreSQL primary."`
}

// resolve finds the log through the running "millrace up" of the data directory if it is not named, and tells where that one's servers are;
// nil if it was named.
func (f *logFlags) resolve() (*devstack.Endpoints, error) {
	if err := f.shopFlags.check(); err != nil {
		return nil, err
	}
	if f.DatabaseURL != "" {
		return nil, nil
	}
	e, err := devstack.Find(f.Data)
	if err != nil {
		return nil, usageError{fmt.Errorf("MILLRACE_DATABASE_URL is not set, and no millrace up was found in %s: %w", f.Data, err)}
	}
	f.DatabaseURL = e.PostgresURL
	return &e, nil
}

// serverFlags name the servers of one shop.
type serverFlags struct {
	logFlags
	ReplicaURLs []string `name:"replica-urls" env:"MILLRACE_REPLICA_URLS" sep:"," placeholder:"URL" help:"PostgreSQL read replicas."`
	RedisURL    string   `env:"MILLRACE_REDIS_URL" placeholder:"URL" help:"Redis; several comma-separated addresses name a cluster."`
	NATSURL     string   `name:"nats-url" env:"MILLRACE_NATS_URL" placeholder:"URL" help:"NATS with JetStream."`
	SecretKey   string   `env:"MILLRACE_SECRET_KEY" placeholder:"HEX" help:"Secret key of the installation: 64 hex digits, or @FILE."`
}

// resolve fills in what is not named from the running "millrace up" of the data directory.
func (f *serverFlags) resolve() error {
	e, err := f.logFlags.resolve()
	if err != nil || e == nil {
		return err
	}
	if len(f.ReplicaURLs) == 0 {
		f.ReplicaURLs = e.ReplicaURLs
	}
	if f.RedisURL == "" {
		f.RedisURL = e.RedisURL
	}
	if f.NATSURL == "" {
		f.NATSURL = e.NATSURL
	}
	if f.SecretKey == "" {
		f.SecretKey = "@" + secretFile(f.Data)
	}
	return nil
}

// resolveSecret is resolve for what cannot do without the secret key: better to hear of a wrong one before waiting for servers.
func (f *serverFlags) resolveSecret() error {
	if err := f.resolve(); err != nil {
		return err
	}
	_, err := f.secret()
	return err
}

func secretFile(dir string) string { return filepath.Join(dir, "secret.key") }

// secret returns the secret key that the flags name.
func (f *serverFlags) secret() ([]byte, error) {
	if f.SecretKey == "" {
		return nil, usageError{errors.New("MILLRACE_SECRET_KEY is not set: it wraps the keys of personal data and signs access tokens")}
	}
	text := f.SecretKey
	if file, ok := strings.CutPrefix(text, "@"); ok {
		content, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usageError{fmt.Errorf("the secret key's file %s does not exist", file)}
		}
		if err != nil {
			return nil, fmt.Errorf("reading the secret key: %w", err)
		}
		text = strings.TrimSpace(string(content))
	}
	return parseSecret(text)
}
