package arrows

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/millrace/millrace/"

// Drivers of stores and brokers.
var (
	postgresDriver = "github.com/jackc/pgx/"
	redisDriver    = "github.com/redis/"
	natsDriver     = "github.com/nats-io/"
	migrateDriver  = "github.com/golang-migrate/"
)

// rule says what the packages of a room may import of this module, and what they may not import of others.
type rule struct {
	room string
	// may are the rooms that it may import, beside itself.
	may []string
	// never are prefixes of other modules' packages.
	never []string
	// standard says that nothing but the standard library may be imported of what is not this module.
	standard bool
}

// The first rule whose room a package is in counts.
var rules = []rule{
	{room: "domain", standard: true},
	{room: "commands", may: []string{"domain", "internal/es"}, never: []string{postgresDriver, redisDriver, natsDriver, migrateDriver}},
	{room: "projections", may: []string{"domain", "internal/es", "internal/projector"}, never: []string{redisDriver, natsDriver, migrateDriver}},
	{room: "processes", may: []string{"domain", "commands", "internal/es", "internal/projector"}, never: []string{redisDriver, natsDriver, migrateDriver}},
	{
		room: "graph", may: []string{"domain", "commands", "projections", "processes", "internal/es", "internal/projector", "internal/responsecache"},
		never: []string{postgresDriver, redisDriver, natsDriver, migrateDriver},
	},
	{room: "migrations"},
	// Examples of what is added to a room obey that room's rule.
	{room: "docs", may: []string{"domain", "internal/es", "internal/projector"}, never: []string{redisDriver, natsDriver, migrateDriver}},
	// What is sealed is named in the domain, so that events can hold it; that is not commerce.
	{room: "internal/vault", may: []string{"domain/personal", "internal", "migrations"}},
	{room: "internal", may: []string{"migrations"}},
	// What is audited must not be what the audit is made of.
	{room: "cmd/millrace/audittest"},
	{room: "bench", may: []string{"domain", "commands", "projections", "processes", "graph", "internal", "migrations"}},
	{room: "cmd", may: []string{"domain", "commands", "projections", "processes", "graph", "internal", "migrations", "bench"}},
}

// forTests are packages that help tests: nothing but tests and one another imports them.
var forTests = []string{"commands/commandtest", "domain/internal/given", "internal/devstack/stacktest", "internal/projector/projectortest"}

func isForTests(path string) bool {
	return slices.ContainsFunc(forTests, func(room string) bool { return within(path, room) })
}

func within(path, room string) bool { return path == room || strings.HasPrefix(path, room+"/") }

func TestPackagesImportWhatTheirRoomMay(t *testing.T) {
	t.Parallel()
	list := exec.CommandContext(t.Context(), "go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, module+"...")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) < 20 {
		t.Fatalf("go list found %d packages only", len(lines))
	}
	for _, line := range lines {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], module)
		i := slices.IndexFunc(rules, func(r rule) bool { return within(pkg, r.room) })
		if i < 0 {
			t.Errorf("%s is in no room", pkg)
			continue
		}
		for _, imported := range fields[1:] {
			if problem := rules[i].problem(imported); problem != "" {
				t.Errorf("%s imports %s: %s", pkg, imported, problem)
			}
			if isForTests(strings.TrimPrefix(imported, module)) && !isForTests(pkg) {
				t.Errorf("%s imports %s: that is for tests", pkg, imported)
			}
		}
	}
}

func (r rule) problem(imported string) string {
	if own, ok := strings.CutPrefix(imported, module); ok {
		if within(own, r.room) || slices.ContainsFunc(r.may, func(room string) bool { return within(own, room) }) {
			return ""
		}
		return r.room + " may import " + strings.Join(r.may, ", ") + " only"
	}
	first, _, _ := strings.Cut(imported, "/")
	if r.standard && strings.Contains(first, ".") {
		return r.room + " may import the standard library only"
	}
	if slices.ContainsFunc(r.never, func(prefix string) bool { return strings.HasPrefix(imported, prefix) }) {
		return r.room + " knows nothing of this driver"
	}
	return ""
}
