package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/millrace/millrace/internal/projector"
)

// glance is how the read models stand at a moment, or why that cannot be told.
type glance struct {
	At          time.Time          `json:"at"`
	Projections []projector.Status `json:"projections"`
	Error       string             `json:"error,omitempty"`
}

// watch shows the read models again and again until ctx ends: the person who watches has seen enough then. That they cannot be
// looked at is shown too, and no reason to end: it is then that somebody watches.
func (c *projectionsCommand) watch(ctx context.Context, out *console, every time.Duration) error {
	show := showLists(out.out, c.Partitions)
	if c.JSON {
		show = showLines(out.out)
	} else if f, ok := out.out.(*os.File); ok && isTerminal(f) {
		show = (&screen{w: f, size: func() (int, int, error) { return term.GetSize(int(f.Fd())) }, every: every}).show
	}
	err := withModels(ctx, c.serverFlags, c.lagFlags, out, func(models *projector.Models) error {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			g := glance{At: time.Now().UTC()}
			var err error
			if g.Projections, err = models.Status(ctx); err != nil {
				g.Error = err.Error()
			}
			if ctx.Err() != nil {
				return nil
			}
			if err := show(g); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
		}
	})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) { // before there was anything to see
		return nil
	}
	return err
}

// showLines prints a JSON object a line.
func showLines(w io.Writer) func(glance) error {
	return func(g glance) error { return json.NewEncoder(w).Encode(g) }
}

// showLists prints one list below the other.
func showLists(w io.Writer, all bool) func(glance) error {
	return func(g glance) error {
		fmt.Fprintln(w, g.At.Format(time.RFC3339))
		if g.Error != "" {
			_, err := fmt.Fprintf(w, "%s\n\n", g.Error)
			return err
		}
		if err := printProjections(w, g.Projections, all); err != nil {
			return err
		}
		_, err := fmt.Fprintln(w)
		return err
	}
}

// screen shows the present list in place of the one before. What does not fit is left out, the best partitions first.
type screen struct {
	w     io.Writer
	size  func() (width, height int, err error)
	every time.Duration
	drawn int // lines of the last list
}

func (s *screen) show(g glance) error {
	width, height, err := s.size()
	if err != nil || width <= 0 || height <= 1 {
		width, height = 80, 24
	}
	lines, err := s.lines(g, height-1) // the cursor stands below
	if err != nil {
		return err
	}
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn) // up to the first line
	}
	for _, line := range lines {
		if runes := []rune(line); len(runes) > width {
			line = string(runes[:width])
		}
		b.WriteString("\r" + line + "\x1b[K\n") // to the end of the line nothing else
	}
	b.WriteString("\x1b[J") // nor below
	s.drawn = len(lines)
	_, err = io.WriteString(s.w, b.String())
	return err
}

func (s *screen) lines(g glance, most int) ([]string, error) {
	lines := []string{fmt.Sprintf("%s, every %s; Ctrl-C ends it", g.At.Local().Format(time.TimeOnly), s.every), ""}
	if g.Error != "" {
		return append(lines, strings.Split(g.Error, "\n")...), nil
	}
	var models, partitions bytes.Buffer
	if err := printModels(&models, g.Projections); err != nil {
		return nil, err
	}
	lines = append(append(lines, linesOf(&models)...), "")
	worst := partitionsOf(g.Projections)
	slices.SortStableFunc(worst, func(a, b partition) int {
		return cmp.Or(cmp.Compare(min(1, len(b.Error)), min(1, len(a.Error))), cmp.Compare(b.LagSeconds, a.LagSeconds), cmp.Compare(b.Lag, a.Lag))
	})
	room := max(0, most-len(lines)-2) // beside the headline and the line that says what is left out
	left := max(0, len(worst)-room)
	if left == 1 {
		left = 0
	}
	if err := printPartitions(&partitions, worst[:len(worst)-left]); err != nil {
		return nil, err
	}
	lines = append(lines, linesOf(&partitions)...)
	if left > 0 {
		lines = append(lines, fmt.Sprintf("and %d partitions that are no worse", left))
	}
	return lines[:min(most, len(lines))], nil
}

func linesOf(b *bytes.Buffer) []string {
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}
