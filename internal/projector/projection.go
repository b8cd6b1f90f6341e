package projector

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/internal/es"
)

// Projection is one read model: which events it wants and how it folds them. It is written once and runs as
// live consumer, as catch-up and as rebuild.
type Projection struct {
	// Name is the name of the model, and of the schema that its SQL uses: lower-case letters and underscores.
	Name string
	// Version is raised whenever the tables, the documents or their fold change: the model is then rebuilt.
	Version int
	// Events are the stored types that the model wants. A wanted event that cannot be decoded stops its partition.
	Events []string
	// Postgres is the part of the model that is kept in tables, or nil.
	Postgres *Postgres
	// Redis is the part of the model that is kept as documents, or nil. Make it with [Documents].
	Redis *Redis

	model string // what the SQL calls it, of a model of the past; "": Name
}

// Postgres is a model kept in tables.
type Postgres struct {
	// Schema is the DDL, in order, naming tables as "<projection>.<table>". Every table needs a primary key:
	// it is how differences are named. A rebuild makes what begins with CREATE INDEX when it has filled the tables: Apply finds
	// rows by their primary keys, or by a UNIQUE index.
	Schema []string
	// Apply folds events into the tables. The events are in log order, decoded, of wanted types, and of several
	// partitions. They and the slice are valid during the call only, and read only. An error (or a panic) undoes
	// the batch; the engine then finds the event that causes it. A row must be written by events of one partition only.
	Apply func(ctx context.Context, tx *Tx, events []es.Event) error
}

var namePattern = regexp.MustCompile(`^[a-z][a-z_]*$`)

func (p *Projection) validate() error {
	switch {
	case !namePattern.MatchString(p.Name):
		return fmt.Errorf("projector: projection name %q: lower-case letters and underscores only", p.Name)
	case strings.HasSuffix(p.Name, pastSuffix):
		return fmt.Errorf("projector: projection name %q: names that end in %s are those of models of the past", p.Name, pastSuffix)
	case p.Version < 1:
		return fmt.Errorf("projector: projection %s: version %d is below 1", p.Name, p.Version)
	case len(p.Events) == 0:
		return fmt.Errorf("projector: projection %s wants no events", p.Name)
	case p.Postgres == nil && p.Redis == nil:
		return fmt.Errorf("projector: projection %s has no store", p.Name)
	case p.Postgres != nil && p.Postgres.Apply == nil:
		return fmt.Errorf("projector: projection %s has tables and no Apply", p.Name)
	}
	return nil
}

func validateAll(projections []Projection) error {
	var err error
	for i := range projections {
		err = errors.Join(err, projections[i].validate())
		same := func(p Projection) bool { return p.Name == projections[i].Name }
		if slices.ContainsFunc(projections[:i], same) {
			err = errors.Join(err, fmt.Errorf("projector: two projections are named %s", projections[i].Name))
		}
	}
	return err
}

// stores lists the stores that the projection has, by the names used in the control tables.
func (p *Projection) stores() []string {
	var s []string
	if p.Postgres != nil {
		s = append(s, storePostgres)
	}
	if p.Redis != nil {
		s = append(s, storeRedis)
	}
	return s
}

// Names of the stores in the control tables.
const (
	storePostgres = "postgres"
	storeRedis    = "redis"
)

// Feed hands out the log as it grows. Implementations decode the events; what cannot be decoded has a nil Fact.
type Feed interface {
	// After returns up to limit events behind a position, at least one, waiting for it if need be.
	After(ctx context.Context, after int64, limit int) ([]es.Event, error)
	// Head is the position up to which the log is known.
	Head() int64
	// WaitFor returns true when the log is known up to the position, and false when it is found to have ended before it after a time.
	WaitFor(ctx context.Context, position int64, since time.Time) (known bool, err error)
	// LastOf is, by partition, the position of the last event of a wanted type as far as Head, or a later one; 0 for none.
	LastOf(wanted func(eventType string) bool) []int64
}

// Log reads the log from the primary, decoded like the Feed's events.
type Log interface {
	Head(ctx context.Context) (int64, error)
	ReadAll(ctx context.Context, after int64, limit int) ([]es.Event, error)
	// ReadPartitions is ReadAll for the events of some partitions only. It also returns up to where there are no others: the last of
	// them if there are as many as the limit, and else the end of the log.
	ReadPartitions(ctx context.Context, partitions []int, after int64, limit int) (events []es.Event, until int64, err error)
	// ReadStream returns up to limit events of a stream behind a version.
	ReadStream(ctx context.Context, stream string, afterVersion int64, limit int) ([]es.Event, error)
}
