package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// oldestPostgres is the oldest major version that is known to work.
const oldestPostgres = 14

// postgresPrograms are the programs of one PostgreSQL installation.
type postgresPrograms struct {
	dir   string
	major int
	lz4   bool // compiled with LZ4
}

func (p postgresPrograms) path(name string) string { return filepath.Join(p.dir, name) }

// ErrMissing is wrapped by the error of Start when a server is not installed.
var ErrMissing = errors.New("is not installed")

// findPostgres returns the installation to use: the one of major version want, which an existing data directory
// needs, or with want 0 the first that is recent enough.
func findPostgres(ctx context.Context, want int) (postgresPrograms, error) {
	var installed []postgresPrograms
	for _, dir := range postgresDirs(ctx) {
		if major, ok := postgresMajor(ctx, dir); ok {
			installed = append(installed, postgresPrograms{dir: dir, major: major, lz4: hasLZ4(ctx, dir)})
		}
	}
	return choosePostgres(installed, want)
}

func choosePostgres(installed []postgresPrograms, want int) (postgresPrograms, error) {
	var majors []int
	for _, p := range installed {
		if p.major == want || want == 0 && p.major >= oldestPostgres {
			return p, nil
		}
		majors = append(majors, p.major)
	}
	switch {
	case len(installed) == 0:
		return postgresPrograms{}, fmt.Errorf("devstack: the PostgreSQL server %w: install it with "+
			"`apt-get install postgresql` or `brew install postgresql@16`", ErrMissing)
	case want == 0:
		return postgresPrograms{}, fmt.Errorf("devstack: PostgreSQL %d or later %w: only %v was found", oldestPostgres, ErrMissing, majors)
	default:
		return postgresPrograms{}, fmt.Errorf("devstack: the data was made by PostgreSQL %d, which %w (found: %v): "+
			"install version %d, or name another data directory", want, ErrMissing, majors, want)
	}
}

// postgresDirs lists the directories that may hold the server's programs, the preferred first.
func postgresDirs(ctx context.Context) []string {
	var dirs []string
	add := func(dir string) {
		if real, err := filepath.EvalSymlinks(dir); err == nil && !slices.Contains(dirs, real) {
			dirs = append(dirs, real)
		}
	}
	for _, program := range []string{"initdb", "postgres"} {
		if path, err := exec.LookPath(program); err == nil {
			if real, err := filepath.EvalSymlinks(path); err == nil {
				add(filepath.Dir(real))
			}
		}
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		add(strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
		"/usr/pgsql-*/bin",          // the PostgreSQL project's RPMs
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			continue // only a malformed pattern fails
		}
		slices.SortFunc(matches, func(a, b string) int { return firstNumber(b) - firstNumber(a) })
		for _, dir := range matches {
			add(dir)
		}
	}
	return dirs
}

var number = regexp.MustCompile(`\d+`)

// firstNumber is the first number in s, 0 when there is none.
func firstNumber(s string) int {
	n, err := strconv.Atoi(number.FindString(s))
	if err != nil {
		return 0
	}
	return n
}

// postgresMajor is the major version of the installation in dir, if dir has all programs that are needed.
func postgresMajor(ctx context.Context, dir string) (int, bool) {
	for _, program := range []string{"postgres", "initdb", "pg_basebackup"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			return 0, false
		}
	}
	// "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0, false
	}
	major := firstNumber(string(out))
	return major, major > 0
}

// hasLZ4 tells whether an installation knows LZ4; one that does not say is taken not to.
func hasLZ4(ctx context.Context, dir string) bool {
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "pg_config"), "--configure").Output()
	return err == nil && strings.Contains(string(out), "--with-lz4")
}

// findRedis returns the path of a Redis or Valkey server.
func findRedis() (string, error) {
	return redisIn(append(filepath.SplitList(os.Getenv("PATH")),
		"/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin", "/home/linuxbrew/.linuxbrew/bin"))
}

func redisIn(dirs []string) (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		for _, dir := range dirs {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil && filepath.IsAbs(path) {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("devstack: neither a Redis nor a Valkey server %w: install one with "+
		"`apt-get install redis-server` or `brew install redis`", ErrMissing)
}
