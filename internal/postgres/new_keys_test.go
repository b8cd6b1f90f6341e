package postgres

import "testing"

// A key that is new, as nearly all are, costs no reading. One that a rival has used costs a round, and from then on, for a while, keys are
// looked up beforehand.
func TestANewKeyIsNotLookedUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, rival := b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL))
	want := execute(t, rival, withKey(putUnits("b", 1), "used", "request"))
	execute(t, w, putUnits("a", 10))
	for range 2 * crowdedFor { // it knows the rival's events, and takes no turns any more
		execute(t, w, putUnits("a", 1))
	}
	before := readings(w)
	execute(t, w, withKey(takeUnits(1, "a"), "new", "request"))
	if n := readings(w) - before; n != 0 {
		t.Errorf("a new key cost %d readings, want none", n)
	}
	again := execute(t, w, withKey(takeUnits(1, "a"), "used", "request"))
	if !again.Replayed || again.Position != want.Position {
		t.Errorf("the repetition of what the rival did at %d ended with %+v", want.Position, again)
	}
	before = readings(w)
	if execute(t, w, withKey(takeUnits(1, "a"), "newer", "request")); readings(w) == before {
		t.Error("a key was not looked up though one has just been repeated")
	}
	if n := b.units(t, "a"); n != 10+2*crowdedFor-2 {
		t.Errorf("%d units, want %d", n, 10+2*crowdedFor-2)
	}
}
