package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
)

// tap stands between a pool and the server. While it swallows, what the server answers is lost: a statement is
// committed and nobody hears of it, until the connection is cut.
type tap struct {
	listener  net.Listener
	upstream  string
	swallow   atomic.Bool
	swallowed chan struct{}

	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newTap(t *testing.T, databaseURL string) (*tap, string) {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{listener: l, upstream: u.Host, swallowed: make(chan struct{}, 1024)}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.wg.Wait()
	})
	u.Host = l.Addr().String()
	return p, u.String()
}

func (p *tap) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.upstream)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.wg.Go(func() { _, _ = io.Copy(server, client) })
		p.wg.Go(func() { p.answer(client, server) })
	}
}

func (p *tap) answer(client, server net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			_ = client.Close()
			return
		}
		if p.swallow.Load() {
			p.swallowed <- struct{}{}
			continue
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// cut ends all connections.
func (p *tap) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// The answer to a commit is lost with its connection: the command was done, is done once, and says so.
func TestACommitWhoseAnswerWasLostIsFoundInTheLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p, tapped := newTap(t, b.env.DatabaseURL)
	w := b.writer(t, connect(t, tapped))
	execute(t, w, putUnits("a", 10))
	for i := range 5 {
		p.swallow.Store(true)
		done := make(chan error, 1)
		go func() {
			_, err := w.Execute(t.Context(), takeUnits(1, "a"))
			done <- err
		}()
		<-p.swallowed // the server has committed and answered
		p.swallow.Store(false)
		p.cut()
		if err := <-done; err != nil && !errors.Is(err, es.ErrOutcomeUnknown) {
			t.Fatalf("command %d: %v", i, err)
		}
	}
	b.readWhole(t)
	if n := b.units(t, "a"); n != 5 {
		t.Fatalf("%d units are left, want 5: each command has one effect", n)
	}
}

// While the server does not answer, what comes is refused at once; afterwards all goes on, and what was under
// way has had one effect or none.
func TestTheWriterOutlivesItsServer(t *testing.T) {
	t.Parallel()
	stack := stacktest.Private(t)
	b := privateBundle(t, stack.PostgresURL())
	w := b.writer(t, b.pool, func(o *WriterOptions) { o.AppendTimeout = time.Second })
	execute(t, w, putUnits("a", 1000))

	var known, unknown atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch _, err := w.Execute(t.Context(), takeUnits(1, "a")); {
				case err == nil:
					known.Add(1)
				case errors.Is(err, es.ErrOutcomeUnknown):
					unknown.Add(1)
				case !errors.Is(err, es.ErrUnavailable) && !errors.Is(err, errNotEnough):
					t.Error(err)
				}
			}
		})
	}
	await(t, "some commands", func() bool { return known.Load() > 100 })
	if err := stack.Primary().Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, "the writer to notice", func() bool { return w.Down() != nil })
	start := time.Now()
	if _, err := w.Execute(t.Context(), takeUnits(1, "a")); !errors.Is(err, es.ErrUnavailable) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if d := time.Since(start); d > 500*time.Millisecond {
		t.Errorf("the refusal took %s", d)
	}
	before := known.Load()
	if err := stack.Primary().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, "commands to go on", func() bool { return known.Load() > before+50 || known.Load() >= 1000 })
	close(stop)
	wg.Wait()
	b.readWhole(t)
	taken := int64(1000 - b.units(t, "a"))
	if taken < known.Load() || taken > known.Load()+unknown.Load() {
		t.Fatalf("%d units were taken; %d commands were acknowledged, of %d the outcome is unknown", taken, known.Load(), unknown.Load())
	}
}

// A log that cannot be read now is told from one that says something is wrong.
func TestALogThatCannotBeReadNow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	execute(t, b.writer(t, b.pool), putUnits("a", 1))
	proxy, through := stacktest.ProxyURL(t, b.env.DatabaseURL)
	log := b.log.On(connect(t, through))
	for _, away := range []func(){proxy.Cut, proxy.Reset} {
		if events, err := log.ReadStream(t.Context(), "units-a", 0, 10); err != nil || len(events) != 1 {
			t.Fatalf("got %d events, %v", len(events), err)
		}
		away()
		for what, read := range map[string]func() error{
			"the log":      func() error { _, err := log.ReadAll(t.Context(), 0, 10); return err },
			"a partition":  func() error { _, _, err := log.ReadPartitions(t.Context(), []int{0}, 0, 10); return err },
			"one's stream": func() error { _, err := log.ReadStream(t.Context(), "units-a", 0, 10); return err },
		} {
			if err := read(); !errors.Is(err, es.ErrUnavailable) {
				t.Errorf("reading %s: %v", what, err)
			}
		}
		proxy.Heal()
		await(t, "the log to be read again", func() bool { _, err := log.Head(t.Context()); return err == nil })
	}
	if _, err := log.ReadStream(t.Context(), "nonsense\x00", 0, 10); err == nil || errors.Is(err, es.ErrUnavailable) {
		t.Errorf("asking for nonsense: %v", err)
	}
}

func privateBundle(t *testing.T, databaseURL string) *bundle {
	t.Helper()
	pool := connect(t, databaseURL)
	log, err := OpenLog(t.Context(), pool, testCodec)
	if err != nil {
		t.Fatal(err)
	}
	return &bundle{pool: pool, log: log, env: &stacktest.Env{DatabaseURL: databaseURL}}
}

// await polls until the condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited too long for %s", what)
		case <-tick.C:
		}
	}
}
