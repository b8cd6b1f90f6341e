package projector

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// leftAlone is how long a server that failed is not asked while others can answer.
	leftAlone = time.Second
	// answerTimeout bounds how long a server may take to begin an answer before the next one is asked.
	answerTimeout = time.Second
)

// server is a PostgreSQL that can answer reads.
type server struct {
	pool      *pgxpool.Pool
	name      string
	downUntil atomic.Int64 // Unix nanoseconds
	lagging   atomic.Bool  // it answers, but with the past
}

func (s *server) down() bool { return time.Now().UnixNano() < s.downUntil.Load() }

func (s *server) failed() { s.leave(leftAlone) }

func (s *server) leave(alone time.Duration) { s.downUntil.Store(time.Now().Add(alone).UnixNano()) }

// inTurn returns the servers in the order in which to ask them: healthy replicas, beginning with another one each time, the
// primary, replicas that lag, and then those that failed a moment ago.
func (m *Models) inTurn() []*server {
	order := make([]*server, 0, len(m.replicas)+1)
	var lagging, down []*server
	start := int(m.turn.Add(1))
	for i := range m.replicas {
		s := m.replicas[(start+i)%len(m.replicas)]
		switch {
		case s.down():
			down = append(down, s)
		case s.lagging.Load():
			lagging = append(lagging, s)
		default:
			order = append(order, s)
		}
	}
	if m.primary.down() {
		down = append(down, m.primary)
	} else {
		order = append(order, m.primary)
	}
	return append(append(order, lagging...), down...)
}

// toleratedLag is how many times refreshEvery a replica may be behind, 2 s, before others are asked rather.
const toleratedLag = 4

// watchReplicas finds out, until ctx ends, which replicas have stopped replaying the log although they answer, and which do not
// answer at all.
func (m *Models) watchReplicas(ctx context.Context) {
	if m.o.Feed == nil {
		return // nothing tells where the log ends
	}
	ticker := time.NewTicker(refreshEvery)
	defer ticker.Stop()
	var heads []int64 // the end of the log as it was at each tick, the oldest first
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		heads = append(heads, m.o.Feed.Head())
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

// measure notes whether a replica has what was the end of the log some time ago. One that does not answer is left alone until the
// next measurement has ended: it is not to be readers who find out, again and again, each by waiting for it.
func (m *Models) measure(ctx context.Context, s *server, expected int64) {
	asking, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var position int64
	err := s.pool.QueryRow(asking, `SELECT coalesce((SELECT position FROM events ORDER BY position DESC LIMIT 1), 0)`).Scan(&position)
	if err != nil {
		if ctx.Err() == nil {
			s.leave(leftAlone + answerTimeout)
		}
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
		bounded, cancel := context.WithTimeout(ctx, answerTimeout)
		err := f(bounded, s)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if state := sqlState(err); state != "" && !serverAtFault(state) && state != undefinedTable {
			return err
		}
		s.failed()
		last = errors.Join(last, err)
	}
	return last
}
