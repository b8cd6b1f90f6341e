package es

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

type (
	added   struct{ N int }
	renamed struct{ Name string }
	foreign struct{}
)

func (added) EventType() string   { return "count.added" }
func (renamed) EventType() string { return "count.renamed" }
func (foreign) EventType() string { return "foreign.event" }

type countFact interface {
	Fact
	isCount()
}

func (added) isCount()   {}
func (renamed) isCount() {}

type count struct {
	N    int
	Name string
}

var counts = NewKind("count", func(s count, f countFact) count {
	switch f := f.(type) {
	case added:
		s.N += f.N
	case renamed:
		s.Name = f.Name
	}
	return s
})

// The function is part of what is stored: these values must never change.
func TestPartitionOfIsFixed(t *testing.T) {
	t.Parallel()
	for stream, want := range map[string][2]int{"order-536365": {8, 0}, "stock-85123A": {0, 0}, "cart-x": {10, 2}, "": {5, 5}} {
		if got := [2]int{PartitionOf(stream, 16), PartitionOf(stream, 8)}; got != want {
			t.Errorf("PartitionOf(%q) among 16 and 8 is %v, want %v", stream, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 256).Draw(t, "n")
		if p := PartitionOf(rapid.String().Draw(t, "stream"), n); p < 0 || p >= n {
			t.Fatalf("partition %d of %d", p, n)
		}
	})
}

func TestStreamNames(t *testing.T) {
	t.Parallel()
	for stream, want := range map[string][2]string{"order-1": {"order", "1"}, "stock-A-B": {"stock", "A-B"}, "odd": {"odd", ""}} {
		if got := [2]string{CategoryOf(stream), IDOf(stream)}; got != want {
			t.Errorf("%s: %v, want %v", stream, got, want)
		}
	}
}

func TestCodec(t *testing.T) {
	t.Parallel()
	c := NewCodec(added{}, renamed{})
	eventType, data, err := c.Encode(added{3})
	if err != nil || eventType != "count.added" || string(data) != `{"N":3}` {
		t.Fatalf("encoded %s %s, %v", eventType, data, err)
	}
	e := Event{Type: eventType, Data: data}
	if err := c.Decode(&e); err != nil || e.Fact != (added{3}) {
		t.Fatalf("decoded %v, %v", e.Fact, err)
	}
	var unknown *UnknownTypeError
	if err := c.Decode(&Event{Type: "count.added.v9"}); !errors.As(err, &unknown) || unknown.Type != "count.added.v9" {
		t.Errorf("an unknown type: %v", err)
	}
	broken := Event{Type: "count.added", Data: []byte(`{"N":"three"}`)}
	if err := c.Decode(&broken); err == nil || broken.Fact != nil {
		t.Errorf("broken data was decoded to %v, %v", broken.Fact, err)
	}
	if _, _, err := c.Encode(foreign{}); !errors.As(err, &unknown) {
		t.Errorf("a foreign fact: %v", err)
	}
}

func decide(states map[string]Versioned) *Decision {
	return NewDecision(time.Unix(1000, 0).UTC(), time.Time{}, func(s string) (Versioned, bool) {
		v, ok := states[s]
		return v, ok
	})
}

func TestADecisionSeesWhatItAppended(t *testing.T) {
	t.Parallel()
	a, b := counts.Stream("a"), counts.Stream("b")
	d := decide(map[string]Versioned{"count-a": {State: count{N: 1}, Version: 4}})
	if _, err := State(d, b); !errors.Is(err, ErrNotLoaded) {
		t.Fatalf("a stream that is not loaded: %v", err)
	}
	if err := d.Need("count-a", "count-c"); !errors.Is(err, ErrNotLoaded) || len(d.Missing()) != 2 {
		t.Fatalf("missing %v, %v", d.Missing(), err)
	}
	if s := Append(d, a, countFact(added{2}), countFact(renamed{"x"})); s != (count{3, "x"}) {
		t.Fatalf("after appending: %+v", s)
	}
	if s, err := State(d, a); err != nil || s != (count{3, "x"}) {
		t.Fatalf("asked again: %+v, %v", s, err)
	}
	if Minted(d, counts.Stream("new")) != (count{}) {
		t.Fatal("a minted stream is not empty")
	}
	got := d.Appended()
	if len(got) != 2 || got[0].Version != 5 || got[1].Version != 6 || d.Changed()["count-a"].Version != 6 {
		t.Fatalf("appended %+v, changed %+v", got, d.Changed())
	}
	if d.OccurredAt() != d.Now {
		t.Errorf("facts without a time of their own occurred at %s, not now", d.OccurredAt())
	}
}

func TestAStreamThatIsPresumedToBeNew(t *testing.T) {
	t.Parallel()
	known, unknown := counts.Stream("a"), counts.Stream("b")
	states := map[string]Versioned{"count-a": {State: count{N: 1}, Version: 4}}
	d := decide(states)
	if s, err := Presumed(d, known); err != nil || s != (count{N: 1}) || len(d.Presumptions()) != 0 {
		t.Errorf("a stream in memory: %+v, %v, presumed %v", s, err, d.Presumptions())
	}
	for range 2 {
		if s, err := Presumed(d, unknown); err != nil || s != (count{}) || len(d.Presumptions()) != 1 || d.Presumptions()[0] != "count-b" || len(d.Missing()) != 0 {
			t.Errorf("another: %+v, %v, presumed %v, missing %v", s, err, d.Presumptions(), d.Missing())
		}
	}
	Append(d, unknown, countFact(added{2}))
	if got := d.Appended(); len(got) != 1 || got[0].Version != 1 {
		t.Errorf("appended %+v", got)
	}
	d = decide(states)
	d.PresumeNothing()
	if _, err := Presumed(d, unknown); !errors.Is(err, ErrNotLoaded) || len(d.Presumptions()) != 0 || len(d.Missing()) != 1 {
		t.Errorf("without presuming: %v, presumed %v, missing %v", err, d.Presumptions(), d.Missing())
	}
}

func TestAFactOfAnotherKindMakesADecisionImpossible(t *testing.T) {
	t.Parallel()
	d := decide(map[string]Versioned{"count-a": {State: count{}}})
	Append(d, counts.Stream("a"), Fact(foreign{}))
	if d.Err() == nil || len(d.Appended()) != 0 {
		t.Fatalf("got %v, appended %v", d.Err(), d.Appended())
	}
}

// addedV2 counts in another unit; addedV3 says which.
type (
	addedV2 struct{ Tenths int }
	addedV3 struct {
		Amount int
		Unit   string
	}
)

func (addedV2) EventType() string { return "count.added.v2" }
func (addedV3) EventType() string { return "count.added.v3" }

func TestUpcasting(t *testing.T) {
	t.Parallel()
	c := NewCodec(addedV3{}, renamed{})
	Upcast(c, func(old addedV2) addedV3 { return addedV3{Amount: old.Tenths, Unit: "tenth"} })
	Upcast(c, func(old added) addedV2 { return addedV2{Tenths: 10 * old.N} })
	for stored, data := range map[string]string{
		"count.added": `{"N":3}`, "count.added.v2": `{"Tenths":30}`, "count.added.v3": `{"Amount":30,"Unit":"tenth"}`,
	} {
		e := Event{Type: stored, Data: []byte(data)}
		if err := c.Decode(&e); err != nil || e.Fact != (addedV3{Amount: 30, Unit: "tenth"}) || e.Type != stored {
			t.Errorf("%s is decoded as %+v, with %v", stored, e.Fact, err)
		}
		if current := c.Current()[stored]; current != "count.added.v3" {
			t.Errorf("%s is decoded as a %s, says the codec", stored, current)
		}
	}
	var unknown *UnknownTypeError
	if _, _, err := c.Encode(added{N: 1}); !errors.As(err, &unknown) {
		t.Errorf("an old version is written: %v", err)
	}
	if err := c.Decode(&Event{Type: "count.added.v4", Data: []byte(`{}`)}); !errors.As(err, &unknown) {
		t.Errorf("a later version is decoded: %v", err)
	}
}

func TestFamily(t *testing.T) {
	t.Parallel()
	for eventType, want := range map[string]string{
		"order.placed": "order.placed", "order.placed.v2": "order.placed", "order.placed.v12": "order.placed",
		"order.v": "order.v", "order.viewed": "order.viewed", "order.v2a": "order.v2a",
	} {
		if got := Family(eventType); got != want {
			t.Errorf("Family(%q) is %q, want %q", eventType, got, want)
		}
	}
}
