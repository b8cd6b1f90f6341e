package bench

// Better says in which direction a figure improves.
type Better string

// The directions.
const (
	Higher Better = "higher"
	Lower  Better = "lower"
)

// Figure is one measured value beside its baseline and its target.
type Figure struct {
	// Name is "<bench>" or "<bench>-<what>", for example "append-cold-p50".
	Name string `json:"name"`
	// Value is what was measured, in Unit.
	Value float64 `json:"value"`
	// Unit is the unit of Value and Baseline, for example "events/s", "ms", "s" or "MiB".
	Unit string `json:"unit"`
	// Baseline is the same measured in the plain way in the same run; null where there is nothing to compare with.
	Baseline *float64 `json:"baseline"`
	// Ratio is Value / Baseline; null without a baseline.
	Ratio *float64 `json:"ratio"`
	// Target bounds Ratio where there is a baseline, and Value where there is none: from below when higher is better,
	// from above when lower is. Null: the figure is for information.
	Target *float64 `json:"target"`
	// Met says whether the target is reached; null without a target.
	Met *bool `json:"met"`
	// Better is the direction in which the figure improves, and hence on which side of Target it has to be.
	Better Better `json:"better"`
}

// newFigure returns a figure without baseline and target.
func newFigure(name string, value float64, unit string, better Better) Figure {
	return Figure{Name: name, Value: value, Unit: unit, Better: better}
}

// against returns the figure with a baseline in its own unit.
func (f Figure) against(baseline float64) Figure {
	f.Baseline = &baseline
	f.Ratio = nil
	if baseline > 0 {
		ratio := f.Value / baseline
		f.Ratio = &ratio
	}
	return f
}

// aiming returns the figure with a target. It comes last: the target is compared with what the figure has by then. A
// figure whose baseline was nothing has missed it.
func (f Figure) aiming(target float64) Figure {
	f.Target = &target
	met := false
	switch {
	case f.Ratio != nil:
		met = f.reaches(*f.Ratio)
	case f.Baseline == nil:
		met = f.reaches(f.Value)
	}
	f.Met = &met
	return f
}

func (f Figure) reaches(measured float64) bool {
	if f.Better == Higher {
		return measured >= *f.Target
	}
	return measured <= *f.Target
}
