package bench

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestTarget(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		figure Figure
		ratio  float64 // 0: none
		met    bool
	}{
		"ratio above":           {newFigure("x", 500, "events/s", Higher).against(100).aiming(4), 5, true},
		"ratio at":              {newFigure("x", 400, "events/s", Higher).against(100).aiming(4), 4, true},
		"ratio below":           {newFigure("x", 399, "events/s", Higher).against(100).aiming(4), 3.99, false},
		"lower ratio reached":   {newFigure("x", 2, "ms", Lower).against(4).aiming(1), 0.5, true},
		"lower ratio missed":    {newFigure("x", 5, "ms", Lower).against(4).aiming(1), 1.25, false},
		"value within":          {newFigure("x", 90, "s", Lower).aiming(90), 0, true},
		"value beyond":          {newFigure("x", 90.1, "s", Lower).aiming(90), 0, false},
		"the ratio, not value":  {newFigure("x", 50, "events/s", Higher).against(100).aiming(4), 0.5, false},
		"a baseline of nothing": {newFigure("x", 50, "events/s", Higher).against(0).aiming(4), 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := c.figure
			if f.Met == nil || *f.Met != c.met {
				t.Errorf("met is %v, want %v", f.Met, c.met)
			}
			switch {
			case c.ratio == 0 && f.Ratio != nil:
				t.Errorf("the ratio is %v, want none", *f.Ratio)
			case c.ratio != 0 && (f.Ratio == nil || *f.Ratio != c.ratio):
				t.Errorf("the ratio is %v, want %v", f.Ratio, c.ratio)
			}
		})
	}
}

func TestReportAsJSON(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(Report{Figures: []Figure{
		newFigure("append-cold", 500, "events/s", Higher).against(100).aiming(4),
		newFigure("visible-replica-p50", 2.5, "ms", Lower),
	}})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"figures":[` +
		`{"name":"append-cold","value":500,"unit":"events/s","baseline":100,"ratio":5,"target":4,"met":true,"better":"higher"},` +
		`{"name":"visible-replica-p50","value":2.5,"unit":"ms","baseline":null,"ratio":null,"target":null,"met":null,"better":"lower"}]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReportAsTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := Report{Figures: []Figure{
		newFigure("append-cold", 5000, "events/s", Higher).against(1000).aiming(4),
		newFigure("import", 95.27, "s", Lower).aiming(90),
		newFigure("visible-replica-p50", 0.25, "ms", Lower),
	}}.WriteTable(&out)
	if err != nil {
		t.Fatal(err)
	}
	const want = `FIGURE               VALUE  BASELINE  UNIT      RATIO  TARGET       MET
append-cold          5000   1000      events/s  5      ratio >= 4   yes
import               95.3   -         s         -      value <= 90  NO
visible-replica-p50  0.250  -         ms        -      -            -
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
