package bench

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// arrival is a request that is due.
type arrival struct {
	n   int
	due time.Time
}

// verdict is what a server made of a request.
type verdict int

const (
	spoiled  verdict = iota // no answer, or one that is neither of the others
	accepted                // it has done what was asked
	turned                  // it has refused: OVERLOADED, with Retry-After
	verdicts
)

// visit is a request and what became of it.
type visit struct {
	kind   visitKind
	result verdict
	due    time.Time
	// late is how long after it was due the request was sent, and took how long after that its answer was there: what somebody who came
	// when it was due had to wait is both.
	late, took time.Duration
}

func (v visit) waited() time.Duration { return v.late + v.took }

// crowd are connections, each with one request under way at a time.
type crowd struct {
	address     string
	connections []*connection
	// attend sends the n-th request over a connection and says what it was and what became of it. An error breaks the connection.
	attend func(c *connection, n int) (visitKind, verdict, error)

	problems sync.Map // text of an error: *atomic.Int64
}

// ask sends one request over the connection of a place, and opens that first if need be.
func (c *crowd) ask(ctx context.Context, place int, a arrival) visit {
	v := visit{due: a.due}
	conn := c.connections[place]
	if conn == nil {
		raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.address)
		if err != nil {
			c.problem(err)
			v.took = time.Since(a.due)
			return v
		}
		conn = newConnection(raw)
		c.connections[place] = conn
	}
	sent := time.Now()
	var err error
	v.kind, v.result, err = c.attend(conn, a.n)
	v.late, v.took = sent.Sub(a.due), time.Since(sent)
	if err != nil {
		c.problem(err)
		_ = conn.Close() // it is broken
		c.connections[place] = nil
	}
	return v
}

func (c *crowd) problem(err error) {
	count, _ := c.problems.LoadOrStore(err.Error(), new(atomic.Int64))
	count.(*atomic.Int64).Add(1)
}

// close hangs up.
func (c *crowd) close() {
	for i, conn := range c.connections {
		if conn != nil {
			_ = conn.Close()
			c.connections[i] = nil
		}
	}
}

// arrivalTick is how often what has become due is sent. A finer one would take more of the processors than the requests do.
const arrivalTick = time.Millisecond

// come sends rate requests a second for a time, whether those before have an answer or not, as long as there are connections; from then on
// they come late, which their visits say.
func (c *crowd) come(ctx context.Context, rate float64, length time.Duration) []visit {
	due := make(chan arrival, len(c.connections))
	began := time.Now()
	go func() {
		defer close(due)
		for n := 0; ; {
			for ; ; n++ {
				at := began.Add(time.Duration(float64(n) / rate * float64(time.Second)))
				if at.Sub(began) >= length {
					return
				}
				if time.Until(at) > 0 {
					break
				}
				select {
				case due <- arrival{n, at}:
				case <-ctx.Done():
					return
				}
			}
			if wait(ctx, arrivalTick) != nil {
				return
			}
		}
	}()
	return c.everywhere(len(c.connections), func(place int, note func(visit)) {
		for a := range due {
			note(c.ask(ctx, place, a))
		}
	})
}

// press has so many callers send one request after the other for a time.
func (c *crowd) press(ctx context.Context, callers int, length time.Duration) []visit {
	var next atomic.Int64
	began := time.Now()
	return c.everywhere(callers, func(place int, note func(visit)) {
		for now := began; now.Sub(began) < length && ctx.Err() == nil; now = time.Now() {
			note(c.ask(ctx, place, arrival{int(next.Add(1)) - 1, now}))
		}
	})
}

// everywhere has each of the first places do something, and returns what all of them noted.
func (c *crowd) everywhere(places int, do func(place int, note func(visit))) []visit {
	each := make([][]visit, places)
	var working sync.WaitGroup
	for place := range places {
		working.Go(func() { do(place, func(v visit) { each[place] = append(each[place], v) }) })
	}
	working.Wait()
	var all []visit
	for _, visits := range each {
		all = append(all, visits...)
	}
	return all
}
