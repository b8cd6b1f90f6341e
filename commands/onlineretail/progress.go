package onlineretail

import "time"

// Phase is a part of an import.
type Phase string

// The phases of an import, in their order.
const (
	// Reading checks the file. Done counts rows; how many there will be is not known yet.
	Reading Phase = "reading"
	// LookingBack reads the log. Done is a position.
	LookingBack Phase = "looking back"
	// Opening creates products and opens their stock. Done counts products.
	Opening Phase = "opening"
	// Importing executes the rows. Done counts rows, those included for which there is nothing to do.
	Importing Phase = "importing"
)

// Progress says how far an import has come.
type Progress struct {
	Phase Phase
	Done  int64
	// Total is what Done will be at the end of the phase; 0 where nobody knows.
	Total int64
	// Rate is how many of them are done in a second, and Remaining how long the rest will take at that rate; 0 where
	// nobody knows.
	Rate      float64
	Remaining time.Duration
}

// pace measures how fast something is done.
type pace struct {
	start time.Time
	done  int
}

func (p *pace) begin() {
	if p.start.IsZero() {
		p.start = time.Now()
	}
}

// report tells how far a phase has come after n more of its total have been done.
func (r *run) report(p *pace, phase Phase, n, total int) {
	before := 0
	if phase == Importing {
		before = r.plan.before
	}
	p.done += n
	out := Progress{Phase: phase, Done: int64(before + p.done), Total: int64(total)}
	if elapsed := time.Since(p.start).Seconds(); elapsed > 0 && p.done > 0 {
		out.Rate = float64(p.done) / elapsed
		out.Remaining = time.Duration(float64(total-before-p.done) / out.Rate * float64(time.Second))
	}
	r.o.Progress(out)
}
