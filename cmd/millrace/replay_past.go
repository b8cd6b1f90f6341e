package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/millrace/millrace/internal/devstack"
	"github.com/millrace/millrace/internal/projector"
)

// moment is a position of the log, or a time.
type moment struct {
	position int64
	at       time.Time
}

func (m moment) given() bool { return m != moment{} }

// UnmarshalText reads decimal digits as a position, and everything else as a time in RFC 3339.
func (m *moment) UnmarshalText(text []byte) (err error) {
	if m.position, err = parsePosition(string(text)); err == nil {
		return nil
	}
	if m.at, err = time.Parse(time.RFC3339, string(text)); err != nil || m.at.IsZero() {
		return fmt.Errorf("%q is neither a position, for example 5000, nor a time, for example 2026-11-22T09:30:00Z", text)
	}
	return nil
}

func parsePosition(text string) (int64, error) {
	position, err := strconv.ParseInt(text, 10, 64)
	if err == nil && position < 1 {
		err = errors.New("the first event has position 1")
	}
	return position, err
}

// whichPast says which models of the past are meant: those of a position, or, where it is 0, all.
type whichPast struct {
	given    bool
	position int64
}

// UnmarshalText reads a position, or "all".
func (w *whichPast) UnmarshalText(text []byte) (err error) {
	w.given = true
	if string(text) == "all" {
		return nil
	}
	if w.position, err = parsePosition(string(text)); err != nil {
		return fmt.Errorf("%q is neither a position, for example 5000, nor all", text)
	}
	return nil
}

// builtPast is what building models of the past did, for machines.
type builtPast struct {
	Position  int64                 `json:"position"`
	Events    int64                 `json:"events"`
	Seconds   float64               `json:"seconds"`
	PerSecond float64               `json:"eventsPerSecond"`
	Models    []projector.PastModel `json:"models"`
}

// buildPast builds models as they were.
func (c *replayCommand) buildPast(ctx context.Context, r *replay) error {
	position, err := c.Until.position, error(nil)
	if position == 0 {
		position, err = projector.PositionAt(ctx, r.Log, c.Until.at)
	}
	var list []projector.PastModel
	var result projector.Result
	if err == nil {
		list, result, err = projector.Past(ctx, r.ReplayOptions, position)
	}
	r.progress.bar.done()
	if errors.Is(err, projector.ErrNoPosition) {
		return usageError{fmt.Errorf("--until: %w", err)}
	}
	if err != nil {
		return err
	}
	done := newReplayed(result)
	if c.JSON {
		return printJSON(r.out.out, builtPast{Position: position, Events: done.Events, Seconds: done.Seconds, PerSecond: done.PerSecond, Models: list})
	}
	fmt.Fprintf(r.out.out, "Built from the %d events up to position %d in %.1f s (%.0f a second). Nobody feeds these models; they stay until they are dropped.\n",
		done.Events, position, done.Seconds, done.PerSecond)
	for _, m := range list {
		c.describe(r, m)
	}
	return nil
}

// describe says where a model of the past is, and how to look at it.
func (c *replayCommand) describe(r *replay, m projector.PastModel) {
	fmt.Fprintf(r.out.out, "\n%s at position %d\n", m.Name, m.Position)
	if m.Schema != "" {
		fmt.Fprintf(r.out.out, "  schema  %s (%s)\n", m.Schema, strings.Join(m.Tables, ", "))
	}
	if m.Documents != "" {
		fmt.Fprintf(r.out.out, "  Redis   %s*: a hash a partition, with a field d:KEY for each document\n", m.Documents)
	}
	if len(m.Tables) > 0 {
		fmt.Fprintf(r.out.out, "  psql %s -c 'SELECT * FROM %s LIMIT 5'\n", c.pasteable(c.DatabaseURL, "MILLRACE_DATABASE_URL", "postgres_url"), m.Tables[0])
		return
	}
	fmt.Fprintf(r.out.out, "  redis-cli -u %s --scan --pattern '%s*'\n", c.pasteable(c.RedisURL, "MILLRACE_REDIS_URL", "redis_url"), m.Documents)
}

// pasteable names a server in a command line to be pasted. URLs have passwords, which are not shown: that of a server of "millrace up" is read
// from the file in which it was found.
func (c *replayCommand) pasteable(given, variable, field string) string {
	if given != "" {
		return `"$` + variable + `"`
	}
	file := strings.ReplaceAll(devstack.EndpointsFile(c.Data), "'", `'\''`)
	// redis-cli takes a URL without a user for one whose user has no name.
	return fmt.Sprintf(`"$(sed -n 's,//:,//default:,; s/.*"%s": "\([^"]*\)".*/\1/p' '%s')"`, field, file)
}

// listPast lists the models of the past.
func (c *replayCommand) listPast(ctx context.Context, r *replay) error {
	list, err := projector.PastModels(ctx, r.ReplayOptions)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(r.out.out, orEmpty(list))
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(r.out.out, "there are no models of the past")
		return err
	}
	t := tabwriter.NewWriter(r.out.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tPOSITION\tVERSION\tSCHEMA\tREDIS\tBUILT")
	for _, m := range list {
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\n", m.Name, m.Position, m.Version, orDash(m.Schema), orDash(m.Documents),
			m.BuiltAt.UTC().Format(time.RFC3339))
	}
	return t.Flush()
}

// dropPast drops models of the past.
func (c *replayCommand) dropPast(ctx context.Context, r *replay) error {
	dropped, err := projector.DropPast(ctx, r.ReplayOptions, c.DropPast.position)
	if err != nil {
		return err
	}
	if len(dropped) == 0 && c.DropPast.position > 0 {
		return usageError{fmt.Errorf("--drop-past %d: there are no such models; replay --past lists those that there are", c.DropPast.position)}
	}
	if c.JSON {
		return printJSON(r.out.out, orEmpty(dropped))
	}
	if len(dropped) == 0 {
		_, err := fmt.Fprintln(r.out.out, "there are no models of the past")
		return err
	}
	for _, m := range dropped {
		fmt.Fprintf(r.out.out, "%s at position %d: dropped\n", m.Name, m.Position)
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
