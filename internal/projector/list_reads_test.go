package projector

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhoComesWhileAListIsReadReadsTogether has a crowd come while a list is being read: it is read once more for all of them, and for nobody else.
func TestWhoComesWhileAListIsReadReadsTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l listReads
		gate, begun := make(chan struct{}), 0
		read := func(_ context.Context, r *listRead) error {
			begun++
			r.list = begun
			<-gate
			return nil
		}
		first := l.join(t.Context(), "list", read)
		synctest.Wait()
		crowd := make([]*listRead, 100)
		for i := range crowd {
			crowd[i] = l.join(t.Context(), "list", read)
		}
		other := l.join(t.Context(), "another list", func(context.Context, *listRead) error { return nil })
		<-other.done
		if begun != 1 {
			t.Errorf("%d reads have begun", begun)
		}
		gate <- struct{}{}
		<-first.done
		synctest.Wait()
		late := l.join(t.Context(), "list", read)
		close(gate)
		for _, r := range crowd {
			if <-r.done; r.list != 2 {
				t.Fatalf("one of the crowd got read %v", r.list)
			}
		}
		if <-late.done; late.list != 3 {
			t.Errorf("who came while the crowd's was read got read %v", late.list)
		}
		synctest.Wait()
		if len(l.newest) != 0 {
			t.Errorf("%d reads are kept", len(l.newest))
		}
	})
}

func TestAListThatHangsIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l listReads
		hang := make(chan struct{})
		first := l.join(t.Context(), "list", func(context.Context, *listRead) error { <-hang; return nil })
		synctest.Wait()
		began := time.Now()
		second := l.join(t.Context(), "list", func(_ context.Context, r *listRead) error { r.list = 2; return nil })
		<-second.done
		if took := time.Since(began); took != turnover || second.list != 2 {
			t.Errorf("%v after %v", second.list, took)
		}
		select {
		case <-first.done:
			t.Error("the one that hangs is done")
		default:
		}
		third := l.join(t.Context(), "list", func(_ context.Context, r *listRead) error { r.list = 3; return nil })
		if <-third.done; third.list != 3 || time.Since(began) != turnover {
			t.Errorf("%v after %v", third.list, time.Since(began))
		}
		close(hang)
	})
}

func TestWhatGoesWrongInAListIsTold(t *testing.T) {
	t.Parallel()
	var l listReads
	wrong := errors.New("wrong")
	r := l.join(t.Context(), "list", func(context.Context, *listRead) error { return wrong })
	if <-r.done; !errors.Is(r.err, wrong) {
		t.Errorf("got %v", r.err)
	}
	r = l.join(t.Context(), "list", func(context.Context, *listRead) error { panic("nil map") })
	if <-r.done; !strings.Contains(r.panicked, "nil map") || !strings.Contains(r.panicked, "list_reads_test.go") {
		t.Errorf("a panic is %q", r.panicked)
	}
}

// TestAListEndsWithTheLastWhoWaits has those who share a read go away one after the other, while it is being read and before that.
func TestAListEndsWithTheLastWhoWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l listReads
		reads := 0
		read := func(ctx context.Context, r *listRead) error {
			reads++
			<-ctx.Done()
			return ctx.Err()
		}
		asker, cancel := context.WithCancel(t.Context())
		first := l.join(asker, "list", read)
		synctest.Wait()
		second := l.join(t.Context(), "list", read)
		if l.join(t.Context(), "list", read) != second {
			t.Fatal("the third does not share the second's")
		}
		cancel()
		synctest.Wait()
		select {
		case <-first.done:
			t.Error("a read ended with the context of who began it")
		default:
		}
		l.leave("list", second)
		synctest.Wait()
		if second.err != nil || len(l.newest) != 1 {
			t.Errorf("with one of two a read ended: %v", second.err)
		}
		l.leave("list", second) // which has not begun
		if !errors.Is(second.err, context.Canceled) || reads != 1 || len(l.newest) != 0 {
			t.Errorf("with the last one: %v, %d reads, %d left", second.err, reads, len(l.newest))
		}
		l.leave("list", first)
		if !errors.Is(first.err, context.Canceled) {
			t.Errorf("with the only one: %v", first.err)
		}
	})
}
