package projector_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

func TestPositionWaits(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("one")
	m := f.models()
	f.expect(m)                         // it is there: building it is not to be waited for below
	f.append("tally-idle", added{N: 1}) // and never again
	for i := range 200 {
		stream := fmt.Sprintf("tally-%d", i%7)
		position := f.append(stream, added{N: i})
		row, err := f.row(m, position, stream)
		must(t, err)
		if row.Last != position {
			t.Fatalf("position %d: the row shows %d", position, row.Last)
		}
		if d := f.document(m, position, stream); d != nil && d.Last != position {
			t.Fatalf("position %d: the document shows %d", position, d.Last)
		}
		ignored := f.append("tally-other", noted{}) // an event that the projection does not want counts too
		if _, err := f.rows(m, ignored); err != nil {
			t.Fatal(err)
		}
		if row, err = f.row(m, ignored, "tally-idle"); err != nil || row.Count != 1 {
			t.Fatalf("an idle stream: %+v, %v", row, err)
		}
	}
}

func TestPositionThatIsNotReached(t *testing.T) {
	t.Parallel()
	f := setup(t)
	stop := f.worker("one")
	m := f.models()
	f.fill(100, 10)
	f.expect(m)
	stop()
	last := f.fill(100, 10)
	began := time.Now()
	if _, err := f.rows(m, last); !errors.Is(err, projector.ErrStale) || errors.Is(err, projector.ErrBeyond) {
		t.Errorf("what nobody folds: %v, want ErrStale", err)
	}
	if took := time.Since(began); took < time.Second || took > 4*time.Second {
		t.Errorf("what nobody folds took %v", took)
	}
	if _, err := f.rows(m, last+1); !errors.Is(err, projector.ErrStale) || !errors.Is(err, projector.ErrBeyond) {
		t.Errorf("beyond the log: %v, want ErrStale and ErrBeyond", err)
	}
	if _, err := f.rows(m, 0); err != nil {
		t.Errorf("without a position: %v", err)
	}
	status, err := m.Status(t.Context())
	must(t, err)
	if status[0].State != projector.Stopped {
		t.Errorf("the status without a worker is %s", status[0].State)
	}
}

func TestMistakesInQueries(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("one")
	m := f.models()
	f.fill(10, 10)
	f.expect(m)
	own := errors.New("the caller's own")
	one := `SELECT 1 FROM tally.streams`
	nothing := func(pgx.Rows) error { return nil }
	need := projector.Need{Projections: []string{"tally"}}
	if err := m.Query(t.Context(), need, one, nil, func(pgx.Rows) error { return own }); !errors.Is(err, own) {
		t.Errorf("got %v", err)
	}
	if err := m.Query(t.Context(), projector.Need{Projections: []string{"nothing"}}, one, nil, nil); err == nil || err.Error() != `projector: there is no model "nothing" in PostgreSQL` {
		t.Errorf("got %v", err)
	}
	if _, err := m.Documents(t.Context(), "nothing", nil); err == nil || err.Error() != `projector: there is no model "nothing" in Redis` {
		t.Errorf("got %v", err)
	}
	began := time.Now()
	err := m.Query(t.Context(), need, `SELECT 1 FROM tally.nothing`, nil, nothing)
	if err == nil || errors.Is(err, projector.ErrStale) || time.Since(began) > time.Second {
		t.Errorf("an unknown table: %v after %v", err, time.Since(began))
	}
	for sql, args := range map[string][]any{
		`SELECT nothing FROM tally.streams`: nil, `SELECT 1 / (count - count) FROM tally.streams`: nil, `SELECT stream::integer FROM tally.streams`: nil,
		`SELECT $1::text FROM tally.streams`: {"\x00"},
	} {
		if err := m.Query(t.Context(), need, sql, args, nothing); err == nil || errors.Is(err, es.ErrUnavailable) || errors.Is(err, projector.ErrStale) {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if err := m.Query(t.Context(), projector.Need{}, one, nil, nothing); err == nil {
		t.Error("a query of no model was answered")
	}
	ctx, cancel := context.WithCancel(es.WithPosition(t.Context(), 1_000_000))
	cancel()
	if err := m.Query(ctx, need, one, nil, nothing); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
