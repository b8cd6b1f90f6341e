package projector

import "context"

// State says how a projection is, in one word.
type State string

// What a projection can be. The words are those of the GraphQL schema.
const (
	// Live: every partition has a worker, none has failed.
	Live State = "LIVE"
	// Rebuilding: a generation is being built, or the model was lost in Redis and is read again.
	Rebuilding State = "REBUILDING"
	// Stopped: no worker has some of the partitions.
	Stopped State = "STOPPED"
	// Failed: a partition stands still at an event that cannot be applied.
	Failed State = "FAILED"
)

// Status is the operator's view of a projection.
type Status struct {
	Name       string `json:"name"`
	Version    int    `json:"version"`
	Generation int    `json:"generation"`                   // the one that readers see; 0: none yet
	Previous   int    `json:"previousGeneration,omitempty"` // the one that they saw before, and that a Rollback goes back to; 0: none
	State      State  `json:"status"`
	// Position is that at or below which everything is visible to readers.
	Position int64 `json:"position"`
	// Lag is the number of events of the log that readers do not see yet: the sum over the partitions. Events of parked
	// streams, which are set aside until somebody retries them, are not among them.
	Lag int64 `json:"lag"`
	// LagSeconds is for how long the oldest of them has been in the log, 0 if there are none.
	LagSeconds float64 `json:"lagSeconds"`
	// LagUnknown says that a store did not tell how far it is, so that more may be missing than Lag.
	LagUnknown bool `json:"lagUnknown,omitempty"`
	// WorkersWanted is how many workers would bring the lag under the target and keep it there.
	WorkersWanted int               `json:"workersWanted"`
	Partitions    []PartitionStatus `json:"partitions"`
	// Rebuild is how far the generation has come that is being built, nil if none is.
	Rebuild *Rebuild `json:"rebuild,omitempty"`
}

// PartitionStatus is the operator's view of one partition of a projection.
type PartitionStatus struct {
	Number   int   `json:"number"`
	Position int64 `json:"position"`
	// Lag is the number of events of the partition that readers do not see yet, LagSeconds for how long the oldest of them has
	// been in the log. Where there are two stores the worse one counts.
	Lag        int64   `json:"lag"`
	LagSeconds float64 `json:"lagSeconds"`
	LagUnknown bool    `json:"lagUnknown,omitempty"` // a store did not tell how far it is
	Worker     string  `json:"worker,omitempty"`     // empty: none
	// Parked is the number of streams that wait behind a parked event.
	Parked int `json:"parked,omitempty"`
	// Error tells what the partition stands still at: position, stream, type and error. Empty: it does not.
	Error string `json:"error,omitempty"`
}

// Status returns the projections of this binary, in the order of the options.
func (m *Models) Status(ctx context.Context) ([]Status, error) {
	i, err := m.inspect(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Status, len(m.o.Projections))
	for n := range m.o.Projections {
		all[n] = i.status(&m.o.Projections[n])
	}
	return all, nil
}

func (i *inspection) status(p *Projection) Status {
	s := Status{Name: p.Name, Version: p.Version, State: Live, WorkersWanted: i.workersWanted(p), Partitions: []PartitionStatus{}}
	lost := false
	at := make(map[int]int)
	for _, f := range i.fed {
		if f.projection == p.Name && f.status == statusPrevious {
			s.Previous = f.generation
		}
		if f.projection != p.Name || f.status != statusLive {
			continue
		}
		s.Generation = f.generation
		lost = lost || f.lost
		n, known := at[f.partition]
		if !known {
			n = len(s.Partitions)
			at[f.partition] = n
			s.Partitions = append(s.Partitions, PartitionStatus{Number: f.partition, Position: i.reached(f)})
		}
		s.Partitions[n].join(f, i.reached(f))
	}
	s.Rebuild = i.building[p.Name]
	if s.Rebuild != nil || s.Generation == 0 || lost {
		s.State = Rebuilding
	}
	if s.Generation == 0 { // readers see nothing
		for _, l := range i.whole {
			s.Lag, s.LagSeconds = s.Lag+l.events, max(s.LagSeconds, l.seconds)
		}
		return s
	}
	s.Position = i.head
	for _, part := range s.Partitions {
		if part.Worker == "" && s.State != Failed {
			s.State = Stopped
		}
		if part.Error != "" {
			s.State = Failed
		}
		s.Position = min(s.Position, part.Position)
		s.Lag, s.LagSeconds = s.Lag+part.Lag, max(s.LagSeconds, part.LagSeconds)
		s.LagUnknown = s.LagUnknown || part.LagUnknown
	}
	return s
}

// join adds what is known of the partition in one of its stores.
func (s *PartitionStatus) join(f fedPartition, reached int64) {
	s.Position = min(s.Position, reached)
	s.Lag, s.LagSeconds = max(s.Lag, f.lag.events), max(s.LagSeconds, f.lag.seconds)
	s.LagUnknown = s.LagUnknown || f.untold
	s.Worker, s.Parked = f.worker, f.parked
	if f.error != "" {
		s.Error = f.error
	}
}

// reached is the position at or below which everything of a partition is visible: the head of the log where nothing is missing.
func (i *inspection) reached(f fedPartition) int64 {
	if f.lag.events == 0 {
		return max(f.position, i.head)
	}
	return f.position
}
