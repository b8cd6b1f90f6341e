package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/bench"
)

// ownBinary returns a program that is this one: the test binary told to be it. The benches start it with none of the settings of this
// process.
func ownBinary(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "millrace")
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", beMillrace, os.Args[0])
	if err := os.WriteFile(file, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestFlashSale sells twenty units to sixty buyers through two api processes, all of them real.
func TestFlashSale(t *testing.T) {
	t.Parallel()
	const units, buyers = 20, 60
	dir := t.TempDir()
	var said safeBuffer
	table := &saleTable{w: &said}
	report, err := bench.FlashSale(t.Context(), bench.Options{Binary: ownBinary(t), Dir: dir, Progress: &said}, bench.SaleOptions{
		Units: units, Buyers: buyers, Concurrency: 8, APIs: 2, SKUs: 3, Before: time.Second, Chart: filepath.Join(dir, "sale.svg"),
		Watch: table.show, Every: table.every(),
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, said.String())
	}
	value := make(map[string]float64)
	for _, f := range report.Figures {
		value[f.Name] = f.Value
	}
	for name, want := range map[string]float64{
		"flash-sale-sold": units, "flash-sale-refused": buyers - units, "flash-sale-failed": 0, "flash-sale-oversold": 0, "flash-sale-unconfirmed": 0,
	} {
		if got, ok := value[name]; !ok || got != want {
			t.Errorf("%s is %v (%t), want %v; what went wrong: %v", name, got, ok, want, report.Sale.Problems)
		}
	}
	for _, name := range []string{
		"flash-sale-rate", "flash-sale-cart-p99", "flash-sale-checkout-p99", "flash-sale-refusal-p99", "flash-sale-confirmation-p50",
		"flash-sale-browsing-p99", "flash-sale-memory-api-1", "flash-sale-memory-api-2",
	} {
		if value[name] <= 0 {
			t.Errorf("%s was not measured", name)
		}
	}
	if sum := value["flash-sale-share-api-1"] + value["flash-sale-share-api-2"]; sum < 99.9 || sum > 100.1 {
		t.Errorf("the api processes sold %v %% together", sum)
	}
	if chart, err := os.ReadFile(filepath.Join(dir, "sale.svg")); err != nil || !bytes.Contains(chart, []byte("</svg>")) {
		t.Errorf("the chart has %d bytes: %v", len(chart), err)
	}
	if lines := said.String(); !strings.Contains(lines, "ELAPSED") || strings.Contains(lines, "\x1b") {
		t.Errorf("the live table is:\n%s", lines)
	}
	var printed bytes.Buffer
	if err := printJSON(&printed, report); err != nil {
		t.Fatal(err)
	}
	var read struct {
		Figures []struct{ Name string }
		Sale    struct {
			Units    int
			Timeline []struct{ Sold int }
		}
	}
	err = json.Unmarshal(printed.Bytes(), &read)
	if err != nil || len(read.Figures) != len(report.Figures) || read.Sale.Units != units || len(read.Sale.Timeline) == 0 {
		t.Errorf("as JSON it is %s (%v)", printed.Bytes(), err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "millrace-bench-*")); err != nil || len(left) > 0 {
		t.Errorf("%v was left (%v)", left, err)
	}
}

func TestMistakesInASale(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"bench --units 5":                                "are for the bench flash-sale alone",
		"bench flash-sale append-hot --api 2":            "are for the bench flash-sale alone",
		"bench flash-sale --buyers 0":                    "--buyers must be 1 or more, not 0",
		"bench flash-sale --api 99":                      "1 to 16 apis, not 99",
		"bench flash-sale --units 2 --skus 3":            "2 units cannot be spread over 3 SKUs",
		"bench flash-sale --units 2 --chart /tmp/of.gif": `an .svg or a .png, not "of.gif"`,
	} {
		var out, said bytes.Buffer
		if code := run(t.Context(), strings.Fields(line), &out, &said); code != exitUsage || !strings.Contains(said.String(), want) {
			t.Errorf("%s ends with %d and says %q, want %d and %q", line, code, said.String(), exitUsage, want)
		}
	}
}

func TestLiveTableOfASale(t *testing.T) {
	t.Parallel()
	moments := []bench.SaleProgress{
		{Elapsed: time.Second, Sold: 90, OrdersPerSecond: 90, P50: 12340 * time.Microsecond, P99: 81 * time.Millisecond},
		{Elapsed: 2100 * time.Millisecond, Sold: 100, Refused: 900, Confirmed: 40, OrdersPerSecond: 10},
	}
	const head = " ELAPSED     SOLD  REFUSED   FAILED  CONFIRMED   ORDERS/S  CHECKOUT P50       P99\n"
	const first = "   1.0 s       90        0        0          0         90       12.3 ms   81.0 ms\n"
	const second = "   2.1 s      100      900        0         40         10             -         -\n"
	for name, c := range map[string]struct {
		terminal bool
		want     string
	}{
		"elsewhere":     {false, head + first + second},
		"on a terminal": {true, head + first + "\x1b[A\r\x1b[K" + second},
	} {
		var out bytes.Buffer
		table := saleTable{w: &out, terminal: c.terminal}
		for _, m := range moments {
			table.show(m)
		}
		if out.String() != c.want {
			t.Errorf("%s it is\n%q\nwant\n%q", name, out.String(), c.want)
		}
	}
}
