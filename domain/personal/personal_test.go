package personal_test

import (
	"encoding/json"
	"testing"

	"github.com/millrace/millrace/domain/personal"
)

func TestNothingSealedIsLeftOutOfJSON(t *testing.T) {
	t.Parallel()
	for want, sealed := range map[string]personal.Sealed{
		`{}`:                             {},
		`{"s":{"key":"k","box":"AQI="}}`: {Key: "k", Box: []byte{1, 2}},
		`{"s":{"key":"k","box":null}}`:   {Key: "k"},
		`{"s":{"key":"","box":"AQI="}}`:  {Box: []byte{1, 2}},
	} {
		b, err := json.Marshal(struct {
			S personal.Sealed `json:"s,omitzero"`
		}{sealed})
		if err != nil || string(b) != want {
			t.Errorf("%+v is %s (%v), want %s", sealed, b, err, want)
		}
	}
}
