package feed

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/postgres"
)

// questioned is a log that the test answers for whenever it is asked where it ends.
type questioned chan chan<- end

// end is where a log ends, or why that is not known.
type end struct {
	position int64
	err      error
}

func (q questioned) Head(context.Context) (int64, error) {
	answer := make(chan end)
	q <- answer
	e := <-answer
	return e.position, e.err
}

func (q questioned) PartitionEnds(context.Context) (int64, []postgres.PartitionEnd, error) {
	return 3, []postgres.PartitionEnd{{Position: 3, Ordinal: 3}}, nil
}

func (q questioned) ReadAll(_ context.Context, after int64, limit int) (events []es.Event, err error) {
	for p := after + 1; p <= after+int64(limit); p++ {
		events = append(events, es.Event{Position: p, Ordinal: p, Type: "note.taken"})
	}
	return events, nil
}

// TestAPositionThatTheLogDoesNotHaveIsNotWaitedFor checks that such a wait ends with the first answer to a question that Postgres was asked after it began,
// which all who wait share; that what is there, or on its way, is waited for; and what may be while Postgres cannot be asked.
func TestAPositionThatTheLogDoesNotHaveIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := make(questioned)
		f := New(Options{Log: log, Info: es.Log{Partitions: 1}, Codec: es.NewCodec(), Logger: slog.New(slog.DiscardHandler)})
		running, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- f.Run(running) }()
		type outcome struct {
			known bool
			err   error
		}
		wait := func(ctx context.Context, position int64) <-chan outcome {
			c := make(chan outcome, 1)
			go func() {
				known, err := f.WaitFor(ctx, position, time.Now())
				c <- outcome{known, err}
			}()
			synctest.Wait()
			return c
		}
		expect := func(what string, c <-chan outcome, known bool, err error) {
			t.Helper()
			synctest.Wait()
			select {
			case o := <-c:
				if o.known != known || !errors.Is(o.err, err) {
					t.Errorf("%s: %t, %v", what, o.known, o.err)
				}
			default:
				t.Errorf("%s is waited for", what)
			}
		}
		const far = 9_000_000_000_000_000_000

		question := <-log
		time.Sleep(time.Millisecond) // of the bubble's time
		appended, crowd := wait(t.Context(), 5), []<-chan outcome{wait(t.Context(), far), wait(t.Context(), far)}
		question <- end{position: 3} // as it was before they came
		question = <-log
		for _, c := range append(crowd, appended) {
			if len(c) > 0 {
				t.Error("a wait ended with an answer from before it began")
			}
		}
		question <- end{position: 5}
		expect("a position that was appended meanwhile", appended, true, nil)
		for _, c := range crowd {
			expect("a position beyond the end", c, false, nil)
		}

		question = <-log
		time.Sleep(time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		away := wait(ctx, far)
		for range 3 {
			question <- end{err: errors.New("away")}
			question = <-log
		}
		if synctest.Wait(); len(away) > 0 {
			t.Error("a wait ended although Postgres could not be asked")
		}
		cancel()
		expect("a position of which nothing is known", away, false, context.Canceled)

		stop()
		question <- end{position: 5}
		if err := <-ended; err != nil {
			t.Errorf("the feed ended with %v", err)
		}
	})
}
