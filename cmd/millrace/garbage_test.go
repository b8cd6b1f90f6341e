package main

import (
	"testing"
	"time"
)

// TestAllocations checks when a process counts as busy, by how much it allocates.
func TestAllocations(t *testing.T) {
	const much, little = busyRate, busyRate / 5 // bytes a second
	for name, c := range map[string]struct {
		seconds []uint64 // bytes allocated in each
		busy    bool
	}{
		"a process that has just begun":        {nil, false},
		"little":                               {[]uint64{little, little, little}, false},
		"much":                                 {[]uint64{little, much}, true},
		"much, and then half of it":            {[]uint64{much, much / 2, much / 2, much / 2, much / 2, much / 2, much / 2, much / 2}, true},
		"half of it":                           {[]uint64{much / 2, much / 2, much / 2}, false},
		"much, and then little":                {[]uint64{much, little, little}, true},
		"much, and then little for long":       {[]uint64{much, little, little, little, little, little}, false},
		"much, then little, and now and again": {[]uint64{much, little, little, little, much / 2, little, little, little}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var a allocations
			at, bytes := time.Unix(1, 0), uint64(0)
			a.look(at, bytes)
			for _, more := range c.seconds {
				for range 2 {
					at, bytes = at.Add(time.Second/2), bytes+more/2
					a.look(at, bytes)
				}
			}
			if a.busy != c.busy {
				t.Errorf("busy: %v", a.busy)
			}
		})
	}
}

// TestRoomForGarbage checks how much garbage may pile up.
func TestRoomForGarbage(t *testing.T) {
	for name, c := range map[string]struct {
		busy bool
		live uint64
		want int
	}{
		"quiet":                {false, 1 << 20, 100},
		"nothing collected":    {true, 0, 100},
		"next to nothing":      {true, 1 << 20, 400},
		"half as much as fits": {true, garbageRoom / 2, 200},
		"as much as fits":      {true, garbageRoom, 100},
		"more":                 {true, 1 << 30, 100},
	} {
		if got := garbagePercent(c.busy, c.live); got != c.want {
			t.Errorf("%s: %d", name, got)
		}
	}
}
