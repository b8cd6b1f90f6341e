package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/go-analyze/charts"
)

// checkChart says what is wrong with the name of a chart's file.
func checkChart(file string) error {
	switch filepath.Ext(file) {
	case ".svg", ".png":
		return nil
	}
	if file == "" {
		return nil
	}
	return fmt.Errorf("a chart is an .svg or a .png, not %q", filepath.Base(file))
}

// Size of a chart in pixels, and of what is in it.
const (
	chartWidth  = 1000
	chartHeight = 720
	chartLabels = 13
	chartLine   = 1.6
)

// writeChart draws the throughput and the latency of the sale over time into a file, SVG or PNG by its ending.
func (s *Sale) writeChart(file string) error {
	content, err := s.draw(filepath.Ext(file)[1:])
	if err == nil {
		err = os.WriteFile(file, content, 0o644)
	}
	if err != nil {
		return fmt.Errorf("bench: drawing the chart of a sale: %w", err)
	}
	return nil
}

// draw returns the picture in a format of the charts library.
func (s *Sale) draw(format string) ([]byte, error) {
	perSecond := func(count func(SaleMoment) int) func(SaleMoment) *float64 {
		return func(m SaleMoment) *float64 {
			rate := float64(count(m)) / s.Interval
			return &rate
		}
	}
	throughput := s.plot(
		SaleOptions{Units: s.Units, SKUs: s.SKUs, Buyers: s.Buyers, Concurrency: s.Concurrency, APIs: s.APIs}.describe(), "buyers a second",
		[]curve{
			{"sold", perSecond(func(m SaleMoment) int { return m.Sold })},
			{"refused", perSecond(func(m SaleMoment) int { return m.Refused })},
			{"failed", perSecond(func(m SaleMoment) int { return m.Failed })},
			{"confirmed", perSecond(func(m SaleMoment) int { return m.Confirmed })},
		})
	latency := s.plot("", "ms", []curve{
		{"checkout p50", func(m SaleMoment) *float64 { return m.CheckoutP50 }},
		{"checkout p99", func(m SaleMoment) *float64 { return m.CheckoutP99 }},
		{"browsing p99", func(m SaleMoment) *float64 { return m.BrowsingP99 }},
	})
	latency.XAxis.Title = "seconds since the first request"
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: format, Width: chartWidth, Height: chartHeight})
	p.FilledRect(0, 0, chartWidth, chartHeight, charts.ColorWhite, charts.ColorWhite, 0)
	half := chartHeight / 2
	for _, part := range []struct {
		from, to int
		plot     charts.LineChartOption
	}{{0, half, throughput}, {half, chartHeight, latency}} {
		box := charts.Box{Top: part.from, Bottom: part.to, Right: chartWidth, IsSet: true}
		if err := p.Child(charts.PainterBoxOption(box)).LineChart(part.plot); err != nil {
			return nil, err
		}
	}
	return p.Bytes()
}

// curve is a value over time; nil where there is none.
type curve struct {
	name string
	of   func(SaleMoment) *float64
}

func (s *Sale) plot(title, unit string, curves []curve) charts.LineChartOption {
	values := make([][]float64, len(curves))
	names := make([]string, len(curves))
	for i, c := range curves {
		names[i] = c.name
		for _, m := range s.Timeline {
			value := charts.GetNullValue()
			if v := c.of(m); v != nil {
				value = *v
			}
			values[i] = append(values[i], value)
		}
	}
	o := charts.NewLineChartOptionWithData(values)
	o.Title.Text = title
	o.Title.FontStyle.FontSize = 13
	o.Legend.SeriesNames = names
	o.Legend.Offset = charts.OffsetRight
	o.Padding = charts.NewBoxEqual(16)
	o.LineStrokeWidth = chartLine
	o.Symbol.Shape = charts.SymbolDot // a value between two that are missing has no line
	o.XAxis.BoundaryGap = charts.Ptr(false)
	o.XAxis.LabelCount = chartLabels
	o.XAxis.Labels = make([]string, len(s.Timeline)) // in place of the ones that it has
	for i, m := range s.Timeline {
		o.XAxis.Labels[i] = strconv.FormatFloat(m.At, 'f', -1, 64)
	}
	o.YAxis[0].Title = unit
	o.YAxis[0].Min = charts.Ptr(0.0)
	o.ValueFormatter = round
	return o
}
