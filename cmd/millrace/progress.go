package main

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// bar shows progress with rate and remaining time on a terminal, and nothing elsewhere.
type bar struct {
	bar  *progressbar.ProgressBar
	what string
}

func newBar(w io.Writer, what string) *bar {
	if !isTerminal(w) {
		return &bar{}
	}
	return &bar{what: what, bar: progressbar.NewOptions64(-1, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())}
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
	}
}
