package bench

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"text/tabwriter"
)

// Report is what a run measured.
type Report struct {
	Figures []Figure `json:"figures"`
	// Sale is what there is to tell of a single flash sale beside its figures; nil for other runs.
	Sale *Sale `json:"sale,omitempty"`
}

// WriteTable prints a row a figure.
func (r Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	// The tabwriter keeps what it is given; what is wrong with w shows when it is flushed.
	_, _ = fmt.Fprintln(t, "FIGURE\tVALUE\tBASELINE\tUNIT\tRATIO\tTARGET\tMET")
	for _, f := range r.Figures {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			f.Name, round(f.Value), orDash(f.Baseline), f.Unit, orDash(f.Ratio), f.targetText(), f.metText())
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("bench: printing the figures: %w", err)
	}
	return nil
}

func (f Figure) targetText() string {
	if f.Target == nil {
		return "-"
	}
	side, what := ">=", "ratio"
	if f.Better == Lower {
		side = "<="
	}
	if f.Baseline == nil {
		what = "value"
	}
	return what + " " + side + " " + round(*f.Target)
}

func (f Figure) metText() string {
	switch {
	case f.Met == nil:
		return "-"
	case *f.Met:
		return "yes"
	default:
		return "NO"
	}
}

func orDash(v *float64) string {
	if v == nil {
		return "-"
	}
	return round(*v)
}

// round writes a number with three significant digits or more, and without an exponent.
func round(v float64) string {
	switch abs := math.Abs(v); {
	case abs >= 100, abs == math.Trunc(abs):
		return strconv.FormatFloat(v, 'f', 0, 64)
	case abs >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case abs >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	default:
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
}
