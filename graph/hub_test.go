package graph

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/internal/es"
)

func TestAWatcherHearsOfTheEventsAndOfTheFailureBehindThem(t *testing.T) {
	w := &watcher{changed: make(chan struct{}, 1)}
	gone := errors.New("the log is away")
	w.put(es.Event{Position: 7})
	w.fail(gone)
	<-w.changed
	if events, err := w.take(); err != nil || len(events) != 1 || events[0].Position != 7 {
		t.Fatalf("first %v, %v", events, err)
	}
	select {
	case <-w.changed:
	default:
		t.Fatal("nothing tells of the failure")
	}
	if events, err := w.take(); len(events) != 0 || !errors.Is(err, gone) {
		t.Fatalf("then %v, %v", events, err)
	}
}
