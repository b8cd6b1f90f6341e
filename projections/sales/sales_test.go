package sales

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/internal/devstack/stacktest"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// What goes into PostgreSQL as the text form of an array comes out as it was.
func TestArraysAsText(t *testing.T) {
	t.Parallel()
	e := stacktest.New(t, stacktest.WithoutNATS())
	conn, err := pgx.Connect(t.Context(), e.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	rapid.Check(t, func(r *rapid.T) {
		texts := rapid.SliceOf(rapid.StringOf(rapid.OneOf(rapid.RuneFrom([]rune(`a"\{},' NUL£`)), rapid.Rune().Filter(func(c rune) bool { return c != 0 })))).Draw(r, "texts")
		integers := rapid.SliceOf(rapid.Int64()).Draw(r, "integers")
		var gotTexts []string
		var gotIntegers []int64
		if err := conn.QueryRow(t.Context(), `SELECT $1::text::text[], $2::text::bigint[]`, textArray(texts), intArray(integers)).Scan(&gotTexts, &gotIntegers); err != nil {
			r.Fatal(err)
		}
		if len(gotTexts) != len(texts) || len(gotIntegers) != len(integers) {
			r.Fatalf("%q came out as %q, %v as %v", texts, gotTexts, integers, gotIntegers)
		}
		for i := range texts {
			if gotTexts[i] != texts[i] {
				r.Fatalf("%q came out as %q", texts[i], gotTexts[i])
			}
		}
		for i := range integers {
			if gotIntegers[i] != integers[i] {
				r.Fatalf("%d came out as %d", integers[i], gotIntegers[i])
			}
		}
	})
}
