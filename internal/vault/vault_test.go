package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/vault"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

var secret = bytes.Repeat([]byte("0123456789abcdef"), 2)

func setup(t *testing.T) (*stacktest.Env, *pgxpool.Pool) {
	t.Helper()
	env := stacktest.New(t, stacktest.WithoutNATS())
	return env, connect(t, env.DatabaseURL)
}

func connect(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func open(t *testing.T, o vault.Options) *vault.Vault {
	t.Helper()
	if o.Secret == nil {
		o.Secret = secret
	}
	v, err := vault.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func seal(t *testing.T, v *vault.Vault, subject, plain string) (string, []byte) {
	t.Helper()
	key, box, err := v.Seal(t.Context(), subject, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	return key, box
}

func TestSealedDataOpensElsewhere(t *testing.T) {
	t.Parallel()
	_, pool := setup(t)
	here, elsewhere := open(t, vault.Options{Pool: pool}), open(t, vault.Options{Pool: pool})
	key, box := seal(t, here, "ada", "1 Mill Lane")
	if bytes.Contains(box, []byte("Mill")) {
		t.Fatal("the box tells what is in it")
	}
	for name, v := range map[string]*vault.Vault{"here": here, "elsewhere": elsewhere} {
		if plain, err := v.Open(t.Context(), key, box); err != nil || string(plain) != "1 Mill Lane" {
			t.Fatalf("%s: got %q, %v", name, plain, err)
		}
	}
	again, other := seal(t, elsewhere, "ada", "1 Mill Lane")
	if again != key {
		t.Fatal("one subject has two keys")
	}
	if bytes.Equal(box, other) {
		t.Fatal("what is equal looks equal when sealed")
	}
	if third, _ := seal(t, here, "bob", "x"); third == key {
		t.Fatal("two subjects have one key")
	}
}

func TestOnlyTheRightKeyOpens(t *testing.T) {
	t.Parallel()
	_, pool := setup(t)
	v := open(t, vault.Options{Pool: pool})
	ada, box := seal(t, v, "ada", "1 Mill Lane")
	bob, _ := seal(t, v, "bob", "2 Mill Lane")
	damaged := bytes.Clone(box)
	damaged[len(damaged)-1] ^= 1
	for name, try := range map[string]struct {
		v   *vault.Vault
		key string
		box []byte
	}{
		"another's key":      {v, bob, box},
		"damaged":            {v, ada, damaged},
		"empty":              {v, ada, nil},
		"another format":     {v, ada, append([]byte{9}, box[1:]...)},
		"another secret key": {open(t, vault.Options{Pool: pool, Secret: bytes.Repeat([]byte("x"), 32)}), ada, box},
	} {
		plain, err := try.v.Open(t.Context(), try.key, try.box)
		if err == nil || errors.Is(err, vault.ErrForgotten) || plain != nil {
			t.Errorf("%s: got %q, %v", name, plain, err)
		}
	}
}

func TestForgetting(t *testing.T) {
	t.Parallel()
	_, pool := setup(t)
	here := open(t, vault.Options{Pool: pool})
	elsewhere := open(t, vault.Options{Pool: pool, TTL: time.Nanosecond})
	key, box := seal(t, here, "ada", "1 Mill Lane")
	if _, err := elsewhere.Open(t.Context(), key, box); err != nil {
		t.Fatal(err)
	}
	has := func(want string) {
		t.Helper()
		if got, err := here.KeyOf(t.Context(), "ada"); err != nil || got != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	has(key)
	if err := here.Forget(t.Context(), "ada", "another"); err != nil {
		t.Fatal(err)
	}
	has(key)
	if err := here.Forget(t.Context(), "ada", key); err != nil {
		t.Fatal(err)
	}
	has("")
	for name, v := range map[string]*vault.Vault{"here": here, "elsewhere": elsewhere} {
		if _, err := v.Open(t.Context(), key, box); !errors.Is(err, vault.ErrForgotten) {
			t.Errorf("%s: got %v, want %v", name, err, vault.ErrForgotten)
		}
	}
	if err := here.Forget(t.Context(), "ada", key); err != nil {
		t.Fatalf("forgetting twice: %v", err)
	}
	// Who comes back gets another key; what was sealed before stays shut.
	if again, _ := seal(t, here, "ada", "3 Mill Lane"); again == key {
		t.Fatal("a deleted key came back")
	}
}

func TestOpenAll(t *testing.T) {
	t.Parallel()
	_, pool := setup(t)
	v := open(t, vault.Options{Pool: pool})
	ada, first := seal(t, v, "ada", "first")
	bob, second := seal(t, v, "bob", "second")
	_, third := seal(t, v, "ada", "third")
	plain, errs := open(t, vault.Options{Pool: pool}).OpenAll(t.Context(), []string{ada, "nobody", bob, ada}, [][]byte{first, first, second, third})
	for i, want := range []string{"first", "", "second", "third"} {
		if string(plain[i]) != want || (errs[i] != nil) != (want == "") {
			t.Errorf("place %d: got %q, %v, want %q", i, plain[i], errs[i], want)
		}
	}
	if !errors.Is(errs[1], vault.ErrForgotten) {
		t.Errorf("got %v, want %v", errs[1], vault.ErrForgotten)
	}
}

// Two processes seal for the same subjects at the same time, in different orders: each subject gets one key.
func TestConcurrentSealsAgreeOnKeys(t *testing.T) {
	t.Parallel()
	const subjects, callers = 200, 4
	_, pool := setup(t)
	vaults := []*vault.Vault{open(t, vault.Options{Pool: pool}), open(t, vault.Options{Pool: pool})}
	keys := make([][]string, len(vaults)*callers)
	g, ctx := errgroup.WithContext(t.Context())
	for i, v := range vaults {
		for c := range callers {
			mine := make([]string, subjects)
			keys[i*callers+c] = mine
			g.Go(func() error {
				for n := range subjects {
					if c%2 == 1 {
						n = subjects - 1 - n
					}
					key, box, err := v.Seal(ctx, fmt.Sprintf("subject %d", n), []byte("x"))
					if err != nil {
						return err
					}
					if _, err := vaults[1-i].Open(ctx, key, box); err != nil {
						return fmt.Errorf("opened by the other: %w", err)
					}
					mine[n] = key
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for n := range subjects {
		for _, mine := range keys {
			if mine[n] != keys[0][n] {
				t.Fatalf("subject %d has the keys %s and %s", n, keys[0][n], mine[n])
			}
		}
	}
}

// Whoever waits for a key shares the commit of all who wait.
func TestKeysAreMadeTogether(t *testing.T) {
	t.Parallel()
	const subjects = 500
	env, pool := setup(t)
	v := open(t, vault.Options{Pool: pool})
	var g errgroup.Group
	for n := range subjects {
		g.Go(func() error {
			_, _, err := v.Seal(t.Context(), fmt.Sprintf("subject %d", n), []byte("x"))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var keys, commits int
	err := connect(t, env.AdminURL).QueryRow(t.Context(),
		`SELECT count(*), count(DISTINCT xmin::text) FROM subject_keys`).Scan(&keys, &commits)
	if err != nil {
		t.Fatal(err)
	}
	if keys != subjects || commits > subjects/4 {
		t.Fatalf("%d keys were made in %d commits, want %d in far fewer", keys, commits, subjects)
	}
}

func TestADatabaseThatIsAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	env := stacktest.New(t, stacktest.WithoutNATS())
	proxy, through := stacktest.ProxyURL(t, env.DatabaseURL)
	v := open(t, vault.Options{Pool: connect(t, through)})
	key, box := seal(t, v, "ada", "x")
	proxy.Cut()
	if _, _, err := v.Seal(t.Context(), "bob", nil); !errors.Is(err, es.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, es.ErrUnavailable)
	}
	if _, err := v.Open(t.Context(), key, box); err != nil {
		t.Errorf("a key in memory: %v", err)
	}
	proxy.Heal()
	seal(t, v, "bob", "x")

	// A caller that gives up does not take those down who wait with it.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := v.Seal(gone, "eve", nil); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v or nothing", err, context.Canceled)
	}
	seal(t, v, "eve", "x")
}

func TestNewRefusesWeakSecrets(t *testing.T) {
	t.Parallel()
	_, pool := setup(t)
	if _, err := vault.New(vault.Options{Pool: pool, Secret: []byte("short")}); err == nil {
		t.Error("a short secret was accepted")
	}
}
