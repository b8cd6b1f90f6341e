package devstack

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestChoosePostgres(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		installed []postgresPrograms
		want      int
		chosen    string // empty: refused
	}{
		"nothing installed":                  {want: 0},
		"the first that is recent enough":    {installed: []postgresPrograms{{dir: "old", major: 13}, {dir: "a", major: 15}, {dir: "b", major: 17}}, chosen: "a"},
		"only too old ones":                  {installed: []postgresPrograms{{dir: "old", major: 13}}},
		"the version of the data, not first": {installed: []postgresPrograms{{dir: "a", major: 15}, {dir: "b", major: 17}}, want: 17, chosen: "b"},
		"the version of the data is missing": {installed: []postgresPrograms{{dir: "a", major: 15}}, want: 14},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := choosePostgres(c.installed, c.want)
			if got.dir != c.chosen || (c.chosen == "") != errors.Is(err, ErrMissing) {
				t.Errorf("chose %q, %v; want %q", got.dir, err, c.chosen)
			}
		})
	}
}

func TestRedisIn(t *testing.T) {
	t.Parallel()
	none, valkey := t.TempDir(), t.TempDir()
	program := filepath.Join(valkey, "valkey-server")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := redisIn([]string{none, valkey}); err != nil || got != program {
		t.Errorf("found %q, %v; want Valkey", got, err)
	}
	if _, err := redisIn([]string{none}); !errors.Is(err, ErrMissing) {
		t.Errorf("without any: %v, want ErrMissing", err)
	}
}
