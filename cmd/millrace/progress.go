package main

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/millrace/millrace/internal/projector"
)

// bar shows progress with rate and remaining time on a terminal, and nothing elsewhere.
type bar struct {
	bar  *progressbar.ProgressBar
	what string
}

func newBar(w io.Writer, what string) *bar {
	return newBarWith(w, what, progressbar.OptionShowIts(), progressbar.OptionSetPredictTime(true))
}

func newBarWith(w io.Writer, what string, options ...progressbar.Option) *bar {
	if !isTerminal(w) {
		return &bar{}
	}
	return &bar{what: what, bar: progressbar.NewOptions64(-1, append(options, progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(what), progressbar.OptionShowCount(), progressbar.OptionThrottle(100*time.Millisecond),
		// Nothing turns while nothing is told: the goroutine that would turn it races with who tells something.
		progressbar.OptionSetSpinnerChangeInterval(0), progressbar.OptionClearOnFinish())...)}
}

func (b *bar) set(done, total int64) {
	if b.bar == nil || total == 0 {
		return
	}
	b.bar.ChangeMax64(total)
	_ = b.bar.Set64(done) // a terminal that does not take it is no reason to stop
}

// phase is set for work in several phases, each with a count of its own.
func (b *bar) phase(what string, done, total int64) {
	if b.bar == nil {
		return
	}
	if what != b.what {
		b.bar.Reset()
		b.bar.Describe(what)
		b.what = what
	}
	b.set(done, total)
}

func (b *bar) done() {
	if b.bar != nil {
		_ = b.bar.Finish()
		b.bar = nil
	}
}

// sayEvery is how often a rebuild says how far it has come where there is no terminal.
const sayEvery = 10 * time.Second

// rebuildProgress shows how far a rebuild has come: as a bar on a terminal, and as a line of the log now and then elsewhere.
type rebuildProgress struct {
	bar   *bar
	doing string
	log   *slog.Logger
	said  time.Time
}

func newRebuildProgress(out *console, doing string) *rebuildProgress {
	return &rebuildProgress{
		bar:   newBarWith(out.err, doing, progressbar.OptionSetPredictTime(false), progressbar.OptionSetWidth(16)), // pace is more precise
		doing: doing, log: out.log, said: time.Now(),
	}
}

// show is called about ten times a second.
func (p *rebuildProgress) show(now projector.Progress) {
	if p.bar.bar != nil {
		p.bar.set(now.Position, now.Head)
		if now.Position < now.Head { // it is cleared at its end
			p.bar.bar.Describe(p.doing + ", " + pace(now))
		}
		return
	}
	if time.Since(p.said) < sayEvery {
		return
	}
	p.said = time.Now()
	p.log.Info(p.doing, "position", now.Position, "head", now.Head, "percent", int(now.Percent()), "eventsPerSecond", int(now.Rate),
		"remainingSeconds", int(now.RemainingSeconds))
}

// pace tells how fast a rebuild is, and how long it takes where that can be told.
func pace(p projector.Progress) string {
	text := fmt.Sprintf("%.0f events/s", p.Rate)
	if p.RemainingSeconds > 0 {
		text += ", " + time.Duration(p.RemainingSeconds*float64(time.Second)).Round(time.Second).String() + " left"
	}
	return text
}
