package postgres

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Who has answered late is not taken for silent afterwards: a writer that refuses everybody would never be answered again.
func TestAnAnswerEndsTheWatch(t *testing.T) {
	t.Parallel()
	for _, answered := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := &Writer{}
			stop := w.watchSilence()
			if answered {
				w.setDown(nil)
			}
			time.Sleep(2 * silentAfter) // of the bubble's clock
			synctest.Wait()
			stop()
			if refuses := errors.Is(w.down, errSilent); refuses == answered {
				t.Errorf("answered %v: newcomers are refused: %v", answered, refuses)
			}
		})
	}
}
