package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/domain"
	"github.com/millrace/millrace/internal/es"
)

// needNoProjection are the event types that no read model needs, and why.
var needNoProjection = map[string]string{
	"invoice.lines_imported": "only the import asks what it has imported, of the invoice's own stream",
	"person.forgotten":       "what is personal is sealed in every model, and is dark once the key is gone",
}

// TestEveryEventIsNamedByAProjection lists, with -v, which projections name an event, in whatever version: who changes one looks there.
func TestEveryEventIsNamedByAProjection(t *testing.T) {
	t.Parallel()
	namedBy := make(map[string][]string)
	for _, p := range allProjections() {
		for _, name := range p.Events {
			namedBy[es.Family(name)] = append(namedBy[es.Family(name)], p.Name)
		}
	}
	for _, e := range domain.Events() {
		name := es.Family(e.(es.Fact).EventType())
		why, excepted := needNoProjection[name]
		switch {
		case len(namedBy[name]) == 0 && !excepted:
			t.Errorf("no projection names %s; if no read model needs it, needNoProjection is to say why", name)
		case len(namedBy[name]) > 0 && excepted:
			t.Errorf("needNoProjection has %s, and %s names it", name, strings.Join(namedBy[name], ", "))
		case excepted:
			t.Logf("%-24s none: %s", name, why)
		default:
			t.Logf("%-24s %s", name, strings.Join(namedBy[name], ", "))
		}
		delete(namedBy, name)
	}
	for name, projections := range namedBy {
		t.Errorf("%s names %s, which is no event of the domain", strings.Join(projections, ", "), name)
	}
	for name := range needNoProjection {
		if !slices.ContainsFunc(domain.Events(), func(e any) bool { return es.Family(e.(es.Fact).EventType()) == name }) {
			t.Errorf("needNoProjection has %s, which is no event of the domain", name)
		}
	}
}

// TestEveryProjectionIsRegistered finds the packages that have a projection, by their source.
func TestEveryProjectionIsRegistered(t *testing.T) {
	t.Parallel()
	var with []string
	for _, room := range []string{"projections", "processes"} {
		files, err := filepath.Glob(filepath.Join("..", "..", room, "*", "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(source), "\nfunc Projection() projector.Projection {") {
				with = append(with, filepath.Base(filepath.Dir(file)))
			}
		}
	}
	var registered []string
	for _, p := range allProjections() {
		registered = append(registered, p.Name)
	}
	slices.Sort(with)
	slices.Sort(registered)
	if !slices.Equal(with, registered) {
		t.Errorf("allProjections has %v; packages with a projection are %v", registered, with)
	}
}
