package projector

import (
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
		read := func(r *listRead) error {
			begun++
			r.list = begun
			<-gate
			return nil
		}
		first := l.join("list", read)
		synctest.Wait()
		crowd := make([]*listRead, 100)
		for i := range crowd {
			crowd[i] = l.join("list", read)
		}
		other := l.join("another list", func(*listRead) error { return nil })
		<-other.done
		if begun != 1 {
			t.Errorf("%d reads have begun", begun)
		}
		gate <- struct{}{}
		<-first.done
		synctest.Wait()
		late := l.join("list", read)
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
		first := l.join("list", func(*listRead) error { <-hang; return nil })
		synctest.Wait()
		began := time.Now()
		second := l.join("list", func(r *listRead) error { r.list = 2; return nil })
		<-second.done
		if took := time.Since(began); took != turnover || second.list != 2 {
			t.Errorf("%v after %v", second.list, took)
		}
		select {
		case <-first.done:
			t.Error("the one that hangs is done")
		default:
		}
		third := l.join("list", func(r *listRead) error { r.list = 3; return nil })
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
	if r := l.join("list", func(*listRead) error { return wrong }); r != nil {
		if <-r.done; !errors.Is(r.err, wrong) {
			t.Errorf("got %v", r.err)
		}
	}
	r := l.join("list", func(*listRead) error { panic("nil map") })
	if <-r.done; r.err == nil || !strings.Contains(r.err.Error(), "nil map") {
		t.Errorf("a panic is %v", r.err)
	}
}
