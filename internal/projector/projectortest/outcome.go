package projectortest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace/millrace/internal/projector"
)

// The stores, as messages call them.
const (
	inPostgres = "PostgreSQL"
	inRedis    = "Redis"
)

// outcome is what a case has come to.
type outcome struct {
	trial *trial
	ways  []*way
	torn  []string // rows that events of several partitions have written
}

// singly is the way whose outcome stands for all.
func (o *outcome) singly() *way { return o.ways[0] }

// look reads what the way has come to.
func (w *way) look(ctx context.Context) error {
	stored, err := projector.Contents(ctx, w.replayOptions(), &w.projection)
	if err != nil {
		return err
	}
	w.stored = stored
	w.contents = map[string]map[string]any{inPostgres: {}, inRedis: {}}
	for _, s := range stored {
		store, name := inPostgres, w.projection.Name+"."+s.Table+" "+s.Key
		if s.Table == "" {
			store, name = inRedis, s.Key+" in partition "+strconv.Itoa(s.Partition)
		}
		w.contents[store][name] = readable([]byte(s.JSON))
	}
	return nil
}

// readable returns JSON decoded, also what is JSON in texts, so that a difference shows where in it it is.
func readable(data []byte) any {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return string(data)
	}
	return unfold(v)
}

func unfold(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			v[name] = unfold(inner)
		}
	case []any:
		for i, inner := range v {
			v[i] = unfold(inner)
		}
	case string:
		if len(v) > 1 && (v[0] == '{' || v[0] == '[') {
			return readable([]byte(v))
		}
	}
	return v
}

// problems are those that a case has whatever it expects: it stands still, ways have come to different ends, partitions share rows.
func (o *outcome) problems() []string {
	var all []string
	for _, w := range o.ways {
		if w.stopped != "" {
			all = append(all, fmt.Sprintf("%s: it stands still: %s", w.name, w.stopped))
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, w := range o.ways[1:] {
		for _, store := range []string{inPostgres, inRedis} {
			if diff := cmp.Diff(o.singly().contents[store], w.contents[store]); diff != "" {
				all = append(all, fmt.Sprintf("%s: the model differs between %q (-) and %q (+):\n%s", store, o.singly().name, w.name, diff))
			}
		}
	}
	return append(all, o.torn...)
}
