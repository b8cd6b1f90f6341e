package relay_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/jetstreamlog"
	"github.com/millrace/millrace/internal/jetstreamlog/logtest"
	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/internal/relay"
)

// childVariable makes the test binary a relay between the database that it names and the NATS server that
// natsVariable names.
const (
	childVariable = "RELAY_TEST_DATABASE"
	natsVariable  = "RELAY_TEST_NATS"
)

func beRelay(databaseURL string) int {
	if err := runRelay(context.Background(), databaseURL); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runRelay(ctx context.Context, databaseURL string) error {
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	log, err := postgres.OpenLog(ctx, pool, es.NewCodec())
	if err != nil {
		return err
	}
	nc, err := jetstreamlog.Connect(os.Getenv(natsVariable), logtest.Logger())
	if err != nil {
		return err
	}
	defer nc.Close()
	return relay.New(relay.Options{Log: log, Info: log.Info(), NATS: nc, Logger: logtest.Logger()}).Run(ctx)
}

func (b *bundle) startChild(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+b.env.DatabaseURL, natsVariable+"="+b.env.NATSURL)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	return cmd
}

// kill ends a child by SIGKILL and waits until it is gone.
func kill(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // "signal: killed"
	}
}

// Two relays are killed in turn, in the middle of their runs, while a third process writes.
func TestRelaysAreKilledInMidRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	children := []*exec.Cmd{b.startChild(t), b.startChild(t)}
	for round := range 8 {
		events := b.log.MustAppend(t, 3000)
		logtest.AwaitCopy(t, b.js, b.log.Info(), events[0].Position+int64(round*300))
		victim := round % len(children)
		kill(children[victim])
		children[victim] = b.startChild(t)
	}
	logtest.RequireCopy(t, b.js, b.log, 1)
	logtest.RequireOneStream(t, b.js)
}
