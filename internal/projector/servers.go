package projector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"

	"github.com/millrace/millrace/internal/breaker"
	"github.com/millrace/millrace/internal/es"
)

const (
	// answerTimeout bounds how long a server may be silent before the next one is asked.
	answerTimeout = time.Second
	// readTimeout bounds all of an answer.
	readTimeout = 5 * time.Second
)

// bounded returns the context of one attempt: it lasts as long as is said, and no longer than half of what is left of ctx, so that
// another server can be asked after it.
func bounded(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, within(ctx, most))
}

// within returns how long that is.
func within(ctx context.Context, most time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(most, time.Until(deadline)/2)
	}
	return most
}

// server is a PostgreSQL that can answer reads.
type server struct {
	pool      *pgxpool.Pool
	name      string
	breaker   *breaker.Breaker
	lagging   atomic.Bool // it answers, but with the past
	otherwise atomic.Bool // the last reading found it behind, or with another generation than was expected
	// answered is when it answered last, Unix nanoseconds. How long an answer takes depends on what was asked: a server that has answered somebody else
	// meanwhile is not silent.
	answered atomic.Int64
	proof    singleflight.Group
}

func (m *Models) newServer(name string, pool *pgxpool.Pool) *server {
	return &server{pool: pool, name: name, breaker: m.newBreaker(name)}
}

func (m *Models) newBreaker(name string) *breaker.Breaker {
	o := breaker.Options{Name: name, Logger: m.o.Logger}
	if m.o.Metrics != nil {
		o.Metrics = m.o.Metrics.registerer
	}
	return breaker.New(o)
}

// errLeftAlone says that a server was not asked.
var errLeftAlone = errors.New("it is left alone for a while, because it did not answer")

// ended tells the server's breaker how a call that was made with ctx has ended, on a connection of the pool.
func (s *server) ended(ctx context.Context, err error) {
	state := sqlState(err)
	switch {
	case err == nil, state != "" && !serverAtFault(state):
		s.succeeded()
	case ctx.Err() != nil, s.busy():
		s.breaker.Abandoned()
	default:
		s.breaker.Failed()
	}
}

func (s *server) succeeded() {
	s.answered.Store(time.Now().UnixNano())
	s.breaker.Succeeded()
}

func (s *server) answeredSince(t time.Time) bool { return s.answered.Load() >= t.UnixNano() }

// watch calls cancel when the server turns out to be silent, unless the returned function was called before.
func (s *server) watch(ctx context.Context, began time.Time, cancel func()) (stop func() bool) {
	half := within(ctx, answerTimeout) / 2
	return time.AfterFunc(half, func() {
		if !s.answeredSince(began) && !s.isThere(ctx, half) {
			cancel()
		}
	}).Stop
}

// isThere finds out whether the server answers, on a connection of its own: those of the pool may all be busy with what takes long.
func (s *server) isThere(ctx context.Context, within time.Duration) bool {
	there, _, _ := s.proof.Do("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
		defer cancel()
		conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
		if err == nil {
			_ = conn.Close(ctx) // it has said what it was asked
		} else if sqlState(err) == "" {
			return false, nil
		}
		s.answered.Store(time.Now().UnixNano())
		return true, nil
	})
	return there.(bool)
}

// busy reports whether all connections to a server are in use: that one of them was waited for in vain says nothing about the server.
func (s *server) busy() bool {
	stat := s.pool.Stat()
	return stat.AcquiredConns() == stat.MaxConns()
}

// LeftAlone names the servers that are not asked at present because they did not answer.
func (m *Models) LeftAlone() []string {
	var names []string
	for _, s := range m.primaryFirst() {
		names = append(names, s.breaker.LeftAlone()...)
	}
	return append(names, m.documents.breaker.LeftAlone()...)
}

// inTurn returns the servers in the order in which to ask them: healthy replicas, beginning with another one each time, the
// primary, replicas that lag, and then those that are left alone.
func (m *Models) inTurn() []*server {
	order := make([]*server, 0, len(m.replicas)+1)
	var lagging, down []*server
	start := int(m.turn.Add(1))
	for i := range m.replicas {
		s := m.replicas[(start+i)%len(m.replicas)]
		switch {
		case !s.breaker.Closed():
			down = append(down, s)
		case s.lagging.Load():
			lagging = append(lagging, s)
		default:
			order = append(order, s)
		}
	}
	if !m.primary.breaker.Closed() {
		down = append(down, m.primary)
	} else {
		order = append(order, m.primary)
	}
	return append(append(order, lagging...), down...)
}

// toleratedLag is how many times refreshEvery a replica may be behind, 2 s, before others are asked rather.
const toleratedLag = 4

// watchReplicas finds out, until ctx ends, which replicas have stopped replaying the log although they answer, and which do not
// answer at all, or do again.
func (m *Models) watchReplicas(ctx context.Context) {
	ticker := time.NewTicker(refreshEvery)
	defer ticker.Stop()
	var heads []int64 // the end of the log as it was at each tick, the oldest first
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var head int64 // as far as it is known: no replica is behind a log of which nothing is known
		if m.o.Feed != nil {
			head = m.o.Feed.Head()
		}
		heads = append(heads, head)
		if len(heads) <= toleratedLag {
			continue
		}
		var group sync.WaitGroup
		for _, s := range m.replicas {
			group.Go(func() { m.measure(ctx, s, heads[0]) })
		}
		group.Wait()
		heads = append(heads[:0], heads[1:]...)
	}
}

// measure notes whether a replica has what was the end of the log some time ago. It is also who tries one that has not answered, as what
// refreshes the list of generations tries the primary: no reader waits for them.
func (m *Models) measure(ctx context.Context, s *server, expected int64) {
	if !s.breaker.Allow() {
		return
	}
	asking, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var position int64
	err := s.pool.QueryRow(asking, `SELECT coalesce((SELECT position FROM events ORDER BY position DESC LIMIT 1), 0)`).Scan(&position)
	s.ended(ctx, err)
	if err != nil {
		return
	}
	lagging := position < expected
	if s.lagging.Swap(lagging) == lagging {
		return
	}
	if lagging {
		m.o.Logger.WarnContext(ctx, "server lags behind the log; reading others instead", "server", s.name, "position", position, "expected", expected)
	} else {
		m.o.Logger.InfoContext(ctx, "server has caught up with the log", "server", s.name, "position", position)
	}
}

// primaryFirst returns the servers for those who want to see the present state.
func (m *Models) primaryFirst() []*server { return append([]*server{m.primary}, m.replicas...) }

// onServers calls f with one server after the other until it succeeds or fails for another reason than the server.
func (m *Models) onServers(ctx context.Context, servers []*server, f func(ctx context.Context, s *server) error) error {
	var last error
	for _, s := range servers {
		if !s.breaker.Allow() {
			last = errors.Join(last, fmt.Errorf("%s: %w", s.name, errLeftAlone))
			continue
		}
		asking, cancel := bounded(ctx, answerTimeout)
		err := f(asking, s)
		cancel()
		s.ended(ctx, err)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if state := sqlState(err); state != "" && !serverAtFault(state) && state != undefinedTable {
			return err
		}
		last = errors.Join(last, fmt.Errorf("%s: %w", s.name, err))
	}
	return fmt.Errorf("%w: %w", es.ErrUnavailable, last)
}
