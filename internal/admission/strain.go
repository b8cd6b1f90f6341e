package admission

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// strainEvery is how often a Strain looks at most.
const strainEvery = 5 * time.Millisecond

// strainForgotten is after how long without a look nothing is known of the present.
const strainForgotten = time.Second

// Strain tells how late this process is: how long it takes to notice that something has come for it, and to run who waits for that. It is short as long as
// there are processors, whoever takes those away. A request is late by it with each answer that it waits for.
//
// It is measured with a byte that goes through a pipe, since what the runtime knows of (/sched/latencies) begins when it has noticed: while there is
// something to run it looks for what has come every 10 ms only.
type Strain struct {
	in, out *os.File

	mu   sync.Mutex
	sent time.Time // zero: none is under way
	came time.Time
	now  time.Duration
}

// NewStrain returns a Strain, for which Run has to run. It registers its metric, unless that is to be out of sight: nil.
func NewStrain(r prometheus.Registerer) (*Strain, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("admission: a pipe to measure how late the process is: %w", err)
	}
	s := &Strain{in: in, out: out}
	promauto.With(r).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_admission_strain_seconds", Help: "How late this process is at noticing what has come for it.",
	}, func() float64 { return s.Now().Seconds() })
	return s, nil
}

// Run measures until ctx ends, then returns nil.
func (s *Strain) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = s.out.Close() })()
	defer s.end()
	var b [1]byte
	for {
		if _, err := s.out.Read(b[:]); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("admission: measuring how late the process is: %w", err)
		}
		s.mu.Lock()
		s.came = time.Now()
		s.now = (s.now + s.came.Sub(s.sent)) / 2
		s.sent = time.Time{}
		s.mu.Unlock()
	}
}

// end has it tell of nothing any more.
func (s *Strain) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = s.in.Close(), s.out.Close()
	s.in, s.sent, s.now = nil, time.Time{}, 0
}

// Now returns how late the process is, as of the last moments in which somebody asked.
func (s *Strain) Now() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case !s.sent.IsZero():
		return max(s.now, now.Sub(s.sent)/2)
	case s.in != nil && now.Sub(s.came) >= strainEvery:
		if now.Sub(s.came) > strainForgotten {
			s.now = 0
		}
		if _, err := s.in.Write([]byte{0}); err == nil {
			s.sent = now
		}
	}
	return s.now
}
