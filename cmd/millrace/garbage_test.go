package main

import (
	"testing"
	"time"
)

// TestPaceOfGarbage checks when a process counts as busy, by when it has collected its garbage.
func TestPaceOfGarbage(t *testing.T) {
	for name, c := range map[string]struct {
		collections []time.Duration
		until       time.Duration
		busy        bool
	}{
		"a process that has just begun":     {nil, time.Second, false},
		"seldom":                            {[]time.Duration{0, 5 * time.Second, 10 * time.Second}, 11 * time.Second, false},
		"often":                             {[]time.Duration{0, time.Second}, time.Second, true},
		"often, and then a little less":     {[]time.Duration{0, time.Second, 5 * time.Second}, 9 * time.Second, true},
		"often, and then no more":           {[]time.Duration{0, time.Second}, 12 * time.Second, false},
		"often, then no more, and then one": {[]time.Duration{0, time.Second, 20 * time.Second}, 21 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			var p collections
			began := time.Unix(1, 0)
			for at := time.Duration(0); at <= c.until; at += lookedAt {
				cycles := uint64(0)
				for _, collected := range c.collections {
					if collected <= at {
						cycles++
					}
				}
				p.look(began.Add(at), cycles)
			}
			if p.busy != c.busy {
				t.Errorf("busy: %v", p.busy)
			}
		})
	}
}
