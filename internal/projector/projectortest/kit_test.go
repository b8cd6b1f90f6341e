package projectortest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

type scored struct {
	Points int `json:"points"`
}

type noted struct{}

func (scored) EventType() string { return "player.scored" }
func (noted) EventType() string  { return "player.noted" }

var codec = es.NewCodec(scored{}, noted{})

// score is a player's row, and document.
type score struct {
	Points, Games int
	At            time.Time
}

func (s score) with(e *es.Event) score {
	fact, _ := e.Fact.(scored)
	return score{Points: s.Points + fact.Points, Games: s.Games + 1, At: e.OccurredAt.UTC()}
}

// scores is a projection without faults, but for those that Points of 13 are to it.
func scores() projector.Projection {
	unlucky := func(e *es.Event) error {
		if e.Fact == (scored{Points: 13}) {
			return errors.New("no luck")
		}
		return nil
	}
	return projector.Projection{
		Name: "scores", Version: 3, Events: []string{"player.scored", "player.noted"},
		Postgres: &projector.Postgres{
			Schema: []string{
				`CREATE TABLE scores.players (player text PRIMARY KEY, points bigint NOT NULL, games bigint NOT NULL, at timestamptz NOT NULL, document json NOT NULL)`,
			},
			Apply: func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
				return projector.Fold(ctx, tx, events, func(e *es.Event) string { return es.IDOf(e.Stream) }, loadScores,
					func(s score, e *es.Event) (score, error) { return s.with(e), unlucky(e) }, saveScores)
			},
		},
		Redis: projector.Documents(
			func(e *es.Event) string { return e.Stream },
			func(doc *score, e *es.Event) (*score, error) {
				if doc == nil {
					doc = &score{}
				}
				next := doc.with(e)
				return &next, unlucky(e)
			}),
	}
}

func loadScores(ctx context.Context, tx *projector.Tx, players []string) (map[string]score, error) {
	rows, err := tx.Query(ctx, `SELECT player, points, games, at FROM scores.players WHERE player = ANY ($1)`, players)
	if err != nil {
		return nil, err
	}
	found := make(map[string]score)
	var player string
	var s score
	_, err = pgx.ForEachRow(rows, []any{&player, &s.Points, &s.Games, &s.At}, func() error {
		found[player] = s
		return nil
	})
	return found, err
}

func saveScores(_ context.Context, tx *projector.Tx, changed []projector.Changed[score]) error {
	for _, c := range changed {
		tx.Queue(`INSERT INTO scores.players VALUES ($1, $2, $3, $4, json_build_object('points', $2::bigint)) ON CONFLICT (player) DO UPDATE
			SET points = excluded.points, games = excluded.games, at = excluded.at, document = excluded.document`,
			c.Key, c.State.Points, c.State.Games, c.State.At)
	}
	return nil
}

var later = Now.Add(time.Hour)

// games are of three players, in partitions 0, 6 and 14 of 16.
func games() []Facts {
	return []Facts{
		On("player-ann", scored{Points: 3}), On("player-bob", scored{Points: 1}, scored{Points: 4}), On("player-cleo", noted{}),
		On("player-ann", scored{Points: 2}).At(later), On("player-bob", noted{}), On("player-cleo", scored{Points: 7}),
	}
}

func TestCasesOfAProjectionWithoutFaults(t *testing.T) {
	t.Parallel()
	kit := New(t, scores(), codec)
	if missing := kit.missing(); len(missing) != 2 {
		t.Errorf("before any case events are missing: %q", missing)
	}
	kit.Case("nothing has happened").
		Then(Rows(`SELECT * FROM scores.players`), Document("player-ann", "player-ann", nil))
	kit.Case("one game").Given(On("player-ann", scored{Points: 3})).
		Then(Rows(`SELECT points FROM scores.players`, Row{3}))
	kit.Case("some games").Given(games()...).Then(
		Rows(`SELECT player, points, games, at FROM scores.players ORDER BY player`,
			Row{"ann", 5, 2, later}, Row{"bob", 5, 3, Now}, Row{"cleo", 7, 2, Now}),
		Rows(`SELECT document FROM scores.players WHERE player = 'ann'`, Row{map[string]int{"points": 5}}),
		Rows(`SELECT max(points) FROM scores.players WHERE false`, Row{nil}),
		Document("player-ann", "player-ann", score{Points: 5, Games: 2, At: later}),
		Document("player-zoe", "player-zoe", nil),
		Answer(askPoints, 5),
	)
	kit.Case("a game that cannot be folded").
		Given(On("player-ann", scored{Points: 3}), On("player-bob", scored{Points: 13}), On("player-ann", scored{Points: 4})).
		ThenStops("no luck")
	kit.EveryEventIsGiven()
	kit.Histories(5, someGames())
}

// askPoints is a query that asks for Ann's points: Redis first.
func askPoints(ctx context.Context, from Sources) (int, error) {
	documents, err := from.Models.Documents(ctx, "scores", []projector.DocKey{{Stream: "player-ann", Key: "player-ann"}})
	if err != nil {
		return 0, err
	}
	if documents[0] != nil {
		s, err := fromJSON(documents[0], score{})
		return s.(score).Points, err
	}
	var points int
	sql := `SELECT points FROM scores.players WHERE player = 'ann'`
	err = from.Models.Query(ctx, projector.Need{Projections: []string{"scores"}}, sql, nil, func(rows pgx.Rows) (err error) {
		points, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		return err
	})
	return points, err
}

func someGames() *rapid.Generator[[]Facts] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Facts {
		player := rapid.SampledFrom([]string{"ann", "bob", "cleo"}).Draw(t, "player")
		return On("player-"+player, scored{Points: rapid.IntRange(0, 9).Draw(t, "points")})
	}), 1, 12)
}

// problemsOf runs a case and returns what is wrong, as Then would tell it.
func problemsOf(t *testing.T, kit *Kit, facts []Facts) string {
	t.Helper()
	c := kit.Case("some games").Given(facts...)
	problems, err := kit.check(t.Context(), c.seed(), c.facts, c.then(nil))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(problems, "\n")
}

// Each projection has one fault, and the kit has to find it and say where.
func TestFaultyProjections(t *testing.T) {
	t.Parallel()
	onlyPostgres := func(apply func(ctx context.Context, tx *projector.Tx, events []es.Event) error) projector.Projection {
		p := scores()
		p.Redis = nil
		p.Postgres = &projector.Postgres{
			Schema: []string{`CREATE TABLE scores.sums (key text PRIMARY KEY, n bigint NOT NULL)`},
			Apply:  apply,
		}
		return p
	}
	const add = `INSERT INTO scores.sums AS s VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET n = s.n + excluded.n`
	const live, rebuilt, caughtUp = `live, in batches`, `rebuilt`, `catching up`
	for _, c := range []struct {
		name       string
		projection func() projector.Projection
		want, not  []string
	}{
		{"one that counts batches", func() projector.Projection {
			return onlyPostgres(func(_ context.Context, tx *projector.Tx, events []es.Event) error {
				tx.Queue(add, events[0].Stream, 1)
				return nil
			})
		}, []string{"PostgreSQL: the model differs", live, rebuilt, caughtUp, `scores.sums ["player-bob"]`}, []string{"Redis"}},
		{"one that remembers", func() projector.Projection {
			var mu sync.Mutex
			seen := map[string]int{}
			return onlyPostgres(func(_ context.Context, tx *projector.Tx, events []es.Event) error {
				mu.Lock()
				defer mu.Unlock()
				for _, e := range events {
					seen[e.Stream]++
					tx.Queue(`INSERT INTO scores.sums VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET n = excluded.n`, e.Stream, seen[e.Stream])
				}
				return nil
			})
		}, []string{"PostgreSQL: the model differs", live, rebuilt, caughtUp}, nil},
		{"one that is wrong in bulk", func() projector.Projection {
			return onlyPostgres(func(_ context.Context, tx *projector.Tx, events []es.Event) error {
				for _, e := range events {
					n := 1
					if tx.Bulk() {
						n = 2
					}
					tx.Queue(add, e.Stream, n)
				}
				return nil
			})
		}, []string{rebuilt, caughtUp}, []string{live}},
		{"one that reads what a rebuild has not saved", func() projector.Projection {
			p := scores()
			p.Redis = nil
			fold := p.Postgres.Apply
			p.Postgres = &projector.Postgres{
				Schema: append([]string{`CREATE TABLE scores.games (player text PRIMARY KEY, games bigint NOT NULL)`}, p.Postgres.Schema...),
				Apply: func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
					if err := fold(ctx, tx, events); err != nil {
						return err
					}
					for _, e := range events {
						tx.Queue(`INSERT INTO scores.games SELECT player, games FROM scores.players WHERE player = $1
							ON CONFLICT (player) DO UPDATE SET games = excluded.games`, es.IDOf(e.Stream))
					}
					return nil
				},
			}
			return p
		}, []string{rebuilt, `scores.games ["cleo"]`}, []string{live, caughtUp}},
		{"one that sums streams up in one row", func() projector.Projection {
			return onlyPostgres(func(_ context.Context, tx *projector.Tx, events []es.Event) error {
				for range events {
					tx.Queue(add, "all", 1)
				}
				return nil
			})
		}, []string{`PostgreSQL: the row ["all"] of scores.sums is written by events of partitions 0 and 6 and 14`}, []string{live, rebuilt, caughtUp}},
		{"one whose documents remember", func() projector.Projection {
			p := scores()
			p.Postgres = nil
			var mu sync.Mutex
			folded := 0
			p.Redis = projector.Documents(func(e *es.Event) string { return e.Stream }, func(_ *score, _ *es.Event) (*score, error) {
				mu.Lock()
				defer mu.Unlock()
				folded++
				return &score{Games: folded}, nil
			})
			return p
		}, []string{"Redis: the model differs", "player-ann in partition 14", live, rebuilt, caughtUp}, []string{"PostgreSQL"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := problemsOf(t, New(t, c.projection(), codec), games())
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("does not say %q:\n%s", want, got)
				}
			}
			for _, not := range c.not {
				if strings.Contains(got, not) {
					t.Errorf("says %q:\n%s", not, got)
				}
			}
		})
	}
}

func TestExpectationsThatDoNotHold(t *testing.T) {
	t.Parallel()
	kit := New(t, scores(), codec)
	const query = `SELECT player, points FROM scores.players WHERE player = 'ann'`
	cases := []struct {
		name     string
		expected Expectation
		want     string
	}{
		{"a row", Rows(query, Row{"ann", 6}), `(?s)^PostgreSQL: SELECT.*\(- wanted, \+ got\).*-.*6.*\+.*5`},
		{"a row that is not there", Rows(query, Row{"ann", 5}, Row{"bob", 5}), `(?s)-.*bob`},
		{"a row too many", Rows(query), `(?s)\+.*ann`},
		{"another type", Rows(query, Row{1, 5}), `^PostgreSQL: SELECT.*cannot scan`},
		{"no such table", Rows(`SELECT 1 FROM scores.teams`), `^PostgreSQL: .*does not exist`},
		{"a document", Document("player-ann", "player-ann", score{Points: 5, Games: 3, At: later}), `(?s)^Redis: document player-ann.*-.*3.*\+.*2`},
		{"no document", Document("player-ann", "player-ann", nil), `^Redis: document player-ann`},
		{"a document that is not there", Document("player-zoe", "player-zoe", score{}), `^Redis: document player-zoe`},
		{"an answer", Answer(askPoints, 6), `(?s)^answer from PostgreSQL and the log.*-.*6.*\+.*5.*answer from Redis.*-.*6.*\+.*5`},
		{
			"no answer", Answer(func(context.Context, Sources) (int, error) { return 0, errors.New("asked in vain") }, 5),
			`answer from Redis: asked in vain`,
		},
	}
	_, err := kit.check(t.Context(), 0, games(), func(ctx context.Context, o *outcome) []string {
		for _, c := range cases {
			if got := strings.Join(c.expected.check(ctx, o), "\n"); !regexp.MustCompile(c.want).MatchString(got) {
				t.Errorf("%s: %q does not say %s", c.name, got, c.want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	bad := append(games(), On("player-bob", scored{Points: 13}))
	if got := problemsOf(t, kit, bad); strings.Count(got, "it stands still: ") != 4 || strings.Count(got, "no luck") != 4 {
		t.Errorf("an event that cannot be folded: %s", got)
	}
}

func TestAHistoryThatFailsIsShown(t *testing.T) {
	t.Chdir(t.TempDir()) // rapid writes down what fails
	p := scores()
	p.Redis = nil
	apply := p.Postgres.Apply
	p.Postgres = &projector.Postgres{Schema: p.Postgres.Schema, Apply: func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
		if len(events) > 1 { // the others are forgotten
			events = events[:1]
		}
		return apply(ctx, tx, events)
	}}
	kit := New(t, p, codec)
	kit.shrinking = 2 * time.Second
	r := &recorder{TB: t}
	func() {
		defer func() {
			e := recover()
			if _, expected := e.(failed); e != nil && !expected {
				panic(e)
			}
		}()
		rapid.Check(r, kit.property(t.Context(), 20, someGames()))
	}()
	said := strings.Join(r.said, "\n")
	if !strings.Contains(said, "the model differs") || !strings.Contains(said, "draw history: ") {
		t.Errorf("it says %s", said)
	}
}

// failed is what a recorder panics with where a test would end.
type failed struct{}

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	said []string
}

func (r *recorder) Logf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}
func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}
func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(failed{})
}
func (r *recorder) FailNow()     { panic(failed{}) }
func (r *recorder) Fail()        {}
func (r *recorder) Failed() bool { return false }

func TestASchemaWithAMistakeIsToldAtOnce(t *testing.T) {
	t.Parallel()
	kit := New(t, scores(), codec)
	kit.projection.Name = "other"
	if err := kit.createGenerations(t.Context()); err == nil || !strings.Contains(err.Error(), `schema "scores" does not exist`) {
		t.Errorf("got %v", err)
	}
}

func TestATableWithoutAPrimaryKeyIsRefused(t *testing.T) {
	t.Parallel()
	p := scores()
	kit := New(t, p, codec)
	if _, err := kit.admin.Exec(t.Context(), `DROP FUNCTION set_witness, witness_write CASCADE; DROP TABLE witness;
		DO $$ BEGIN EXECUTE (SELECT 'ALTER TABLE ' || tables[1] || ' DROP CONSTRAINT players_pkey' FROM projections WHERE version = 2); END $$`); err != nil {
		t.Fatal(err)
	}
	if err := kit.setWitness(t.Context()); err == nil || !strings.Contains(err.Error(), "has no primary key") {
		t.Errorf("got %v", err)
	}
}
