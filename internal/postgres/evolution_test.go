package postgres

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/internal/es"
)

// putV2 is what a newer release writes.
type putV2 struct{ Dozens int }

func (putV2) EventType() string { return "units.put.v2" }

// Two releases write one log: the older one refuses commands on a stream that holds what only the newer one knows,
// whether it reads the stream for the first time or has its state in memory, and goes on with all the others.
func TestAnOlderReleaseLeavesStreamsOfANewerOneAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	newer := es.NewCodec(put{}, taken{}, putV2{})
	log, err := OpenLog(t.Context(), b.pool, newer)
	if err != nil {
		t.Fatal(err)
	}
	older := b.writer(t, b.pool)
	rival := (&bundle{env: b.env, pool: b.pool, log: log}).writer(t, connect(t, b.env.DatabaseURL))
	putDozens := func(id string) es.Command {
		return es.Command{Name: "put dozens", Streams: []string{units.Stream(id).Name()}, Decide: func(d *es.Decision) error {
			es.Append(d, units.Stream(id), putV2{1})
			return nil
		}}
	}
	execute(t, older, putUnits("cached", 1))
	execute(t, older, putUnits("other", 1))
	execute(t, rival, putDozens("cached"))
	execute(t, rival, putDozens("new"))
	length := len(b.readWhole(t))
	for _, c := range []es.Command{putUnits("cached", 1), takeUnits(1, "cached"), putUnits("new", 1), takeUnits(1, "other", "new")} {
		var unknown *es.UnknownTypeError
		if _, err := older.Execute(t.Context(), c); !errors.As(err, &unknown) || unknown.Type != "units.put.v2" {
			t.Errorf("%s: %v, want a refusal that names units.put.v2", c.Name, err)
		}
	}
	if n := len(b.readWhole(t)); n != length {
		t.Errorf("refused commands wrote %d events", n-length)
	}
	execute(t, older, takeUnits(1, "other"))
}
