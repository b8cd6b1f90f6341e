package projector

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// lookAgain is how long what was seen is told, however often somebody asks.
	lookAgain = time.Second
	// lookTimeout bounds a look, so that the other figures of the process are not kept waiting.
	lookTimeout = 2 * time.Second
)

var (
	lagEventsDesc = prometheus.NewDesc("millrace_projection_lag_events",
		"Events of the partition that this generation does not show yet. The same from every process: take the max, not the sum.",
		[]string{"projection", "generation", "status", "partition"}, nil)
	lagSecondsDesc = prometheus.NewDesc("millrace_projection_lag_seconds",
		"For how long the oldest event of the partition that this generation does not show yet has been in the log. The same from every process.",
		[]string{"projection", "generation", "status", "partition"}, nil)
	wantedDesc = prometheus.NewDesc("millrace_projection_workers_wanted",
		"Workers that would bring the projection's lag under MILLRACE_LAG_TARGET and keep it there. The same from every process.",
		[]string{"projection"}, nil)
	allWantedDesc = prometheus.NewDesc("millrace_workers_wanted",
		"Workers of all projections that would bring every lag under MILLRACE_LAG_TARGET and keep it there. The same from every process.",
		nil, nil)
	lagKnownDesc = prometheus.NewDesc("millrace_projection_lag_known",
		"1 if this process could find out the lag of projections; 0 if it could not, and then it does not tell what it could not find out.", nil, nil)
)

// LagCollector tells how far read models lag, and how many workers they want. It looks at the log and the checkpoints itself, when it is asked,
// in whatever process it is: so a projection without a worker lags, and a worker that stands still cannot say that all is
// well. A process that cannot look says so and tells no figures, rather than those of before.
type LagCollector struct {
	models *Models

	mu     sync.Mutex
	looked time.Time
	seen   *inspection // nil: the last look failed
}

// NewLagCollector returns a collector of the models' projections.
func NewLagCollector(m *Models) *LagCollector { return &LagCollector{models: m} }

// Describe is part of prometheus.Collector.
func (*LagCollector) Describe(into chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{lagEventsDesc, lagSecondsDesc, wantedDesc, allWantedDesc, lagKnownDesc} {
		into <- d
	}
}

// Collect is part of prometheus.Collector.
func (c *LagCollector) Collect(into chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		into <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	i := c.look()
	if i == nil {
		gauge(lagKnownDesc, 0)
		return
	}
	known := 1.0
	for of, l := range i.byGeneration(c.models.o.Projections) {
		if l.unknown {
			known = 0
			continue
		}
		labels := []string{of.projection, strconv.Itoa(of.generation), of.status, strconv.Itoa(of.partition)}
		gauge(lagEventsDesc, float64(l.events), labels...)
		gauge(lagSecondsDesc, l.seconds, labels...)
	}
	gauge(lagKnownDesc, known)
	all := 1
	for n := range c.models.o.Projections {
		p := &c.models.o.Projections[n]
		wanted := i.workersWanted(p)
		all = max(all, wanted)
		gauge(wantedDesc, float64(wanted), p.Name)
	}
	gauge(allWantedDesc, float64(all))
}

// look returns what was seen a moment ago, or looks. Those who ask at the same time share a look.
func (c *LagCollector) look() *inspection {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookAgain {
		return c.seen
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	i, err := c.models.inspect(ctx)
	if err != nil {
		c.models.o.Logger.WarnContext(ctx, "lag of projections not known", "error", err)
		i = nil
	}
	c.seen, c.looked = i, time.Now()
	return i
}

// lagOf names a partition of a generation.
type lagOf struct {
	projection string
	generation int
	status     string
	partition  int
}

// statusNone is told of a projection that has no generation at all, with the number 0.
const statusNone = "none"

// byGeneration returns the lag of each partition, of two stores the worse one. A projection of which there is nothing lags by all of
// the log.
func (i *inspection) byGeneration(projections []Projection) map[lagOf]lag {
	all := make(map[lagOf]lag, len(i.fed))
	there := make(map[string]bool)
	for _, f := range i.fed {
		there[f.projection] = true
		of := lagOf{f.projection, f.generation, f.status, f.partition}
		l := all[of]
		all[of] = lag{
			events: max(l.events, f.lag.events), seconds: max(l.seconds, f.lag.seconds), unknown: l.unknown || f.untold,
		}
	}
	for _, p := range projections {
		for n, l := range i.whole {
			if !there[p.Name] {
				all[lagOf{p.Name, 0, statusNone, n}] = l
			}
		}
	}
	return all
}
