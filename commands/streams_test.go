package commands_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain"
	"github.com/millrace/millrace/domain/personal"
	"github.com/millrace/millrace/internal/es"
)

// snapshotted returns the kinds whose states are stored as snapshots.
func snapshotted() (categories []*es.Category) {
	for _, c := range commands.Categories() {
		if c.Shape() > 0 {
			categories = append(categories, c)
		}
	}
	return categories
}

// factsOf returns the types of the events of a category.
func factsOf(c *es.Category) (facts []any) {
	for _, f := range domain.Events() {
		if _, err := c.Fold(c.Zero(), f, time.Time{}); err == nil {
			facts = append(facts, f)
		}
	}
	return facts
}

// A state that is restored from a snapshot and goes on is the state of all events.
func TestASnapshotAndWhatFollowsIsTheWholeStream(t *testing.T) {
	for _, c := range snapshotted() {
		facts := factsOf(c)
		t.Run(c.Name, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) {
				events := rapid.IntRange(1, 30).Draw(r, "events")
				snapshotAt := rapid.IntRange(0, events-1).Draw(r, "snapshot behind")
				whole, restored := c.Zero(), c.Zero()
				at := time.Date(2026, 3, 4, 5, 6, 7, 8000, time.UTC)
				for n := range events {
					fact := drawn(r, rapid.SampledFrom(facts).Draw(r, "fact"))
					at = at.Add(time.Duration(rapid.IntRange(1, 1e9).Draw(r, "later")) * time.Microsecond)
					whole = must[any](t)(c.Fold(whole, fact, at))
					restored = must[any](t)(c.Fold(restored, fact, at))
					if n == snapshotAt {
						restored = must[any](t)(c.Restore(must[[]byte](t)(json.Marshal(restored))))
					}
				}
				// As JSON: what is empty and what is not there are the same to everybody.
				if want, got := must[[]byte](t)(json.Marshal(whole)), must[[]byte](t)(json.Marshal(restored)); string(want) != string(got) {
					r.Fatalf("with a snapshot behind event %d the state is\n%s, without\n%s", snapshotAt+1, got, want)
				}
			})
		})
	}
}

// drawn returns a fact of the same type with other values, few enough that facts meet.
func drawn(t *rapid.T, fact any) any {
	v := reflect.New(reflect.TypeOf(fact)).Elem()
	fill(t, v)
	return v.Interface()
}

func fill(t *rapid.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.SampledFrom([]string{"", "A", "B", "C", "ä\x00\"<\u2028"}).Draw(t, "text"))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(rapid.IntRange(-3, 20).Draw(t, "number")))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 3).Draw(t, "length"), 3))
		for i := range v.Len() {
			fill(t, v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	default:
		t.Fatalf("there is no value for a %s", v.Type())
	}
}

// Whoever changes the type of a state raises its shape in streams.go, and then what stands here: snapshots of the type before would be
// restored as something else. What a fold makes of events is part of the shape as well, and nothing but attention keeps that.
func TestShapesOfSnapshots(t *testing.T) {
	t.Parallel()
	const money = "{minor int64; currency string}"
	want := map[string]string{
		"product": "1 {id string; slug string; title string; description string; status string; " +
			"variants []{sku string; title string; price " + money + "}; createdAt time; updatedAt time}",
		"slug":    "1 {product string}",
		"stock":   "1 {sku string; product string; onHand int; reserved int}",
		"cart":    "1 {currency string; status string; lines []{sku string; product string; title string; quantity int; unitPrice " + money + "}; order string}",
		"invoice": "1 {lines []int}",
	}
	for _, c := range snapshotted() {
		if got := fmt.Sprintf("%d %s", c.Shape(), shape(t, reflect.TypeOf(c.Zero()))); got != want[c.Name] {
			t.Errorf("the state of %s has the shape\n%s\nand had\n%s", c.Name, got, want[c.Name])
		}
	}
}

// shape describes a type as its JSON shows it. Forgetting a person does not reach snapshots, so that what is sealed is as
// little welcome in them as what is not.
func shape(t *testing.T, of reflect.Type) string {
	t.Helper()
	switch {
	case of == reflect.TypeFor[time.Time]():
		return "time"
	case of == reflect.TypeFor[personal.Sealed]():
		t.Error("a snapshot holds personal data")
		return "sealed"
	case of.Kind() == reflect.Slice:
		return "[]" + shape(t, of.Elem())
	case of.Kind() == reflect.Struct:
		var fields []string
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			fields = append(fields, name+" "+shape(t, of.Field(i).Type))
		}
		return "{" + strings.Join(fields, "; ") + "}"
	default:
		return of.Kind().String()
	}
}
