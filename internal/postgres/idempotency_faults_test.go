package postgres

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
)

// Fifty callers at two processes use one key at the same time, and the next, while the processes are cut off from the server, or lose its
// answers, again and again. Each key has one effect, and everybody who used it is told the same.
func TestOneKeyHasOneEffectWhileConnectionsBreak(t *testing.T) {
	t.Parallel()
	const callers, keys = 50, 12
	b := setup(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var writers []*Writer
	var proxies []*stacktest.Proxy
	for range 2 {
		proxy, through := stacktest.ProxyURL(t, b.env.DatabaseURL)
		proxies = append(proxies, proxy)
		writers = append(writers, b.writer(t, connect(t, through), func(o *WriterOptions) { o.AppendTimeout = time.Second }))
	}
	execute(t, b.writer(t, b.pool), putUnits("a", 10*keys))

	stop, answered := make(chan struct{}), make(chan struct{})
	var breaking sync.WaitGroup
	var faults atomic.Int64
	for i, p := range proxies {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		breaking.Go(func() {
			for {
				// However slow the machine is, somebody is answered between two faults.
				for range 1 + random.IntN(12) {
					select {
					case <-stop:
						return
					case <-answered:
					}
				}
				fault := []func(){p.Cut, p.Reset, p.Stall}[random.IntN(3)]
				fault()
				faults.Add(1)
				lasts := time.Duration(random.IntN(60)) * time.Millisecond
				if faults.Load()%4 == 0 { // long enough for who waits to be told that the outcome is not known
					lasts += answerAfter * 3 / 2
				}
				<-time.After(lasts)
				p.Heal()
			}
		})
	}
	var retries, replayed atomic.Int64
	for k := range keys {
		var mu sync.Mutex
		positions := map[int64]int{}
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				w := writers[i%2]
				// Every third key is for what may have nothing to do.
				command := takeUnits(1, "a")
				if k%3 == 2 {
					command = look("b", 1)
				}
				for attempt := 0; ; attempt++ {
					outcome, err := w.Execute(t.Context(), withKey(command, fmt.Sprint("key ", k), "request"))
					if err == nil {
						mu.Lock()
						positions[outcome.Position]++
						mu.Unlock()
						select {
						case answered <- struct{}{}:
						default:
						}
						if outcome.Replayed {
							replayed.Add(1)
						}
						return
					}
					if !errors.Is(err, es.ErrUnavailable) && !errors.Is(err, es.ErrOutcomeUnknown) {
						t.Errorf("key %d: %v", k, err)
						return
					}
					retries.Add(1)
					if pause(t.Context(), min(attempt, 2)) != nil {
						return
					}
				}
			})
		}
		wg.Wait()
		if len(positions) != 1 {
			t.Errorf("key %d was answered at %v, want one position", k, positions)
		}
	}
	close(stop)
	breaking.Wait()
	events := b.readWhole(t)
	effects := map[string]int{}
	for _, e := range events {
		effects[e.Type+" "+e.Stream]++
	}
	want := map[string]int{"units.put units-a": 1, "units.taken units-a": keys - keys/3, "units.put units-b": 1}
	if fmt.Sprint(effects) != fmt.Sprint(want) {
		t.Errorf("the log has %v, want %v", effects, want)
	}
	var records int
	if err := b.pool.QueryRow(t.Context(), `SELECT count(*) FROM idempotency`).Scan(&records); err != nil || records != keys {
		t.Errorf("%d records, %v; want %d", records, err, keys)
	}
	t.Logf("%d faults, %d attempts that had to be repeated, %d answers that were given again", faults.Load(), retries.Load(), replayed.Load())
	if faults.Load() == 0 || retries.Load() == 0 {
		t.Error("nothing was broken")
	}
}

// A command with a key has nothing to do. Its record is committed and the answer lost, and a rival sees to it that there would now be something to
// do: nothing is done, and the answer is that of the record.
func TestARecordWhoseAnswerWasLostIsFound(t *testing.T) {
	t.Parallel()
	for _, turns := range []bool{false, true} {
		t.Run(fmt.Sprint("turns ", turns), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			p, tapped := newTap(t, b.env.DatabaseURL)
			w, rival := b.writer(t, connectUpTo(t, tapped, 1)), b.writer(t, b.pool)
			execute(t, w, putUnits("a", 2))
			if turns {
				execute(t, rival, putUnits("b", 1))
			}
			for i := range 2 {
				execute(t, w, withKey(look("a", 2), fmt.Sprint("before ", i), "request"))
			}
			command := withKey(look("a", 2), "key", "request")
			key := command.Idempotency.Key
			decide := command.Decide
			lose := sync.OnceFunc(func() { p.swallow.Store(true) })
			command.Decide = func(d *es.Decision) error {
				lose()
				return decide(d)
			}
			w.mu.Lock()
			w.states.unused.Add(hashOf("key"), unusedKey{position: w.head}) // as after a reading: it is the record's answer that is lost
			w.mu.Unlock()
			call := submit(t, w, command)[0]
			<-p.swallowed
			var position int64
			await(t, "the record to be committed", func() bool {
				return b.pool.QueryRow(t.Context(), `SELECT position FROM idempotency WHERE key = $1`, key[:]).Scan(&position) == nil
			})
			execute(t, rival, putUnits("a", 5))
			p.swallow.Store(false)
			p.cut()
			<-call.done
			outcome, err := call.outcomes[0], call.errs[0]
			for err != nil { // who has waited for long is told that the outcome is not known
				if !errors.Is(err, es.ErrUnavailable) && !errors.Is(err, es.ErrOutcomeUnknown) {
					t.Fatal(err)
				}
				outcome, err = w.Execute(t.Context(), command)
			}
			if outcome.Events != 0 || outcome.Position != position {
				t.Errorf("the command ended with %+v, want the answer at %d", outcome, position)
			}
			if n := b.units(t, "a"); n != 7 {
				t.Errorf("%d units, want 7", n)
			}
		})
	}
}
