package responsecache

import (
	"context"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// told is a feed that has come to position 1, and that says of the rest what it is told to.
type told struct {
	at   time.Time
	more bool
}

func (f *told) Head() int64                         { return 1 }
func (f *told) Confirmed() (int64, time.Time, bool) { return 1, f.at, f.more }
func (f *told) Follow(ctx context.Context, _ int64, _ func([]es.Event) error) error {
	<-ctx.Done()
	return nil
}

// unchanged are read models that nobody switches.
type unchanged struct{}

func (unchanged) Shows(projector.Reading) bool { return true }
func (unchanged) Wants(string, string) bool    { return true }

// TestWhatAnEntryIsGoodFor says for how long an entry that nothing is known to have touched is good, by what Postgres said last.
func TestWhatAnEntryIsGoodFor(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		after time.Duration // since Postgres said that there was nothing else
		more  bool          // it has said since that there is
		want  verdict
	}{
		{"Postgres has just said that there is nothing else", 0, false, good},
		{"Postgres has not answered for a while", certainty - 1, false, good},
		{"Postgres has not answered for too long", certainty, false, outdated},
		{"an event is on its way", Grace - 1, true, passing},
		{"an event has been on its way for long", Grace, true, outdated},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			c, err := New(Options{Feed: &told{at: began, more: test.more}, Models: unchanged{}, Projections: []string{"goods"}})
			if err != nil {
				t.Fatal(err)
			}
			c.touches.reset(1)
			e := newEntry(nil, projector.Reading{Position: 1}, began)
			if got := c.judge(e, began.Add(test.after)); got != test.want {
				t.Errorf("it is %v, not %v", got, test.want)
			}
		})
	}
}
