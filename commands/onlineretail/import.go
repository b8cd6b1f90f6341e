package onlineretail

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/internal/es"
)

// Commands make what an import executes. They are those of [commands.App].
type Commands interface {
	Currency() money.Currency
	ImportProduct(commands.ImportProduct) es.Command
	ImportOrder(commands.ImportOrder) es.Command
	ImportReturn(commands.ImportReturn) es.Command
	ImportCorrection(commands.ImportCorrection) es.Command
}

// Options say what to import, and into which shop.
type Options struct {
	Source   Source
	Commands Commands
	Executor es.Executor
	// Reader reads the log that Executor appends to, without delay.
	Reader es.Reader
	// Location is the shop's time zone, which the dates of the file are in.
	Location *time.Location
	// RejectedPath is where the rejected rows are written to; empty means nowhere. See [RejectedPath].
	RejectedPath string
	// Progress, if not nil, is called now and then, by one goroutine at a time. It must not block for long.
	Progress func(Progress)
	// Patience is for how long the log may be unavailable before the import gives up; 0 means a minute.
	Patience time.Duration
	// ChunkEvents is how many events are executed together, roughly; 0 means 3,500.
	ChunkEvents int
}

// Import imports a file. It may be called again, for the same file or others, after whatever happened: what is done is
// done once.
//
// A broken file is a [*FileError], and nothing of it is imported. When ctx ends the import stops with its error, between
// commits. Any other error, for example one that wraps [es.ErrUnavailable] because the log was away for longer than
// Patience, has stopped it too; the rows before are imported.
func Import(ctx context.Context, o Options) (Result, error) {
	if o.ChunkEvents == 0 {
		o.ChunkEvents = 3500
	}
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	s, err := readSheet(ctx, o.Source, o.Commands.Currency(), o.Location, func(rows int) {
		o.Progress(Progress{Phase: Reading, Done: int64(rows)})
	})
	if err != nil {
		return Result{}, err
	}
	p, err := makePlan(ctx, o.Reader, s, func(position, head int64) {
		o.Progress(Progress{Phase: LookingBack, Done: position, Total: head})
	})
	if err != nil {
		return Result{}, fmt.Errorf("onlineretail: reading what has been imported before: %w", err)
	}
	run := &run{o: o, plan: p, position: p.history.position}
	if err := run.execute(es.WithMetadata(ctx, es.Metadata{Actor: "import"})); err != nil {
		return Result{}, err
	}
	if err := s.writeRejected(o.RejectedPath, run.messages); err != nil {
		return Result{}, err
	}
	return Result{Summary: s.summary(), Position: run.position}, nil
}

// run executes a plan.
type run struct {
	o        Options
	plan     *plan
	build    builder
	position int64
	// messages are those of refused rows.
	messages map[int32]string
	// How fast products are opened and rows are imported.
	products, rows pace
}

// chunk is a number of commands that are executed together.
type chunk struct {
	commands []es.Command
	// steps are those of the commands; nil for openings of stock.
	steps []step
	done  int // products or rows
}

// execute prepares a chunk while the one before it is being executed.
func (r *run) execute(ctx context.Context) error {
	if len(r.plan.steps) == 0 {
		return nil
	}
	r.build = builder{plan: r.plan, make: r.o.Commands, begin: r.plan.begin()}
	r.build.titles, r.build.prices = r.plan.sheet.offers()
	g, ctx := errgroup.WithContext(ctx)
	chunks := make(chan chunk)
	g.Go(func() error {
		defer close(chunks)
		return r.prepare(ctx, chunks)
	})
	g.Go(func() error {
		for c := range chunks {
			if err := r.executeChunk(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

// prepare makes all commands, the openings of stock before the rows.
func (r *run) prepare(ctx context.Context, out chan<- chunk) error {
	var c chunk
	events := 0
	send := func() error {
		if len(c.commands) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case out <- c:
			c, events = chunk{}, 0
			return nil
		}
	}
	for _, p := range r.plan.products {
		command, n := r.build.opening(p.sku, p.need)
		c.commands = append(c.commands, command)
		c.done++
		if events += n; events >= r.o.ChunkEvents {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if err := send(); err != nil {
		return err
	}
	for i := range r.plan.steps {
		st := &r.plan.steps[i]
		command, n := r.build.command(st)
		if events+n > r.o.ChunkEvents {
			if err := send(); err != nil {
				return err
			}
		}
		c.commands = append(c.commands, command)
		c.steps = append(c.steps, *st)
		c.done += len(st.rows)
		events += n
	}
	return send()
}

// executeChunk executes the commands, and those that were refused for lack of stock once more: somebody else has bought
// what was meant for the rows, so that more is put in stock for them.
func (r *run) executeChunk(ctx context.Context, c chunk) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	pace := &r.rows
	if c.steps == nil {
		pace = &r.products
	}
	pace.begin()
	refusals, err := r.send(ctx, c.commands)
	if err != nil {
		return r.stopped(c, err)
	}
	if c.steps == nil {
		// Rows whose SKU could not be opened are refused in their turn.
		r.report(pace, Opening, c.done, len(r.plan.products))
		return nil
	}
	if short(refusals) {
		if refusals, err = r.again(ctx, c, refusals); err != nil {
			return r.stopped(c, err)
		}
	}
	for i, refusal := range refusals {
		r.reject(c.steps[i].rows, refusal)
	}
	r.report(pace, Importing, c.done, len(r.plan.sheet.rows))
	return nil
}

// send executes commands and returns their refusals by index. They are not given up in the middle when ctx ends. While the
// log is not available it sends again what may not have been done: every command has its effect once.
func (r *run) send(ctx context.Context, cs []es.Command) (refusals map[int]error, err error) {
	refusals = make(map[int]error)
	indexes := make([]int, len(cs)) // of cs, as they were given
	for i := range indexes {
		indexes[i] = i
	}
	failing := time.Now()
	for attempt := 0; ; attempt++ {
		outcomes, errs := r.o.Executor.ExecuteAll(context.WithoutCancel(ctx), cs)
		var left []es.Command
		var leftIndexes []int
		var failure error
		for i, err := range errs {
			switch {
			case err == nil:
				r.position = max(r.position, outcomes[i].Position)
			case rule.CodeOf(err) != "":
				refusals[indexes[i]] = err
			default:
				left, leftIndexes = append(left, cs[i]), append(leftIndexes, indexes[i])
				failure = err
			}
		}
		if failure == nil {
			return refusals, nil
		}
		if len(left) < len(cs) {
			failing, attempt = time.Now(), 0
		}
		passing := errors.Is(failure, es.ErrUnavailable) || errors.Is(failure, es.ErrOutcomeUnknown)
		if !passing || time.Since(failing) > r.o.Patience {
			return nil, failure
		}
		if err := pause(ctx, min(50*time.Millisecond<<min(attempt, 6), 2*time.Second)); err != nil {
			return nil, err
		}
		cs, indexes = left, leftIndexes
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

func short(refusals map[int]error) bool {
	for _, err := range refusals {
		if rule.CodeOf(err) == rule.OutOfStock {
			return true
		}
	}
	return false
}

// again receives what the refused steps of a chunk need and executes them, in their order. It returns what is refused
// even so.
func (r *run) again(ctx context.Context, c chunk, refusals map[int]error) (map[int]error, error) {
	s := r.plan.sheet
	var cs []es.Command
	var origin []int // of each command; -1 for an opening
	for i, st := range c.steps {
		if refusals[i] == nil {
			continue
		}
		out := make(map[int32]int64)
		var skus []int32
		for _, at := range st.rows {
			row := &s.rows[at]
			if st.kind == giveBack || st.kind == correction && s.quantity(row) > 0 {
				continue
			}
			if _, known := out[s.skuID(row)]; !known {
				skus = append(skus, s.skuID(row))
			}
			out[s.skuID(row)] += max(s.quantity(row), -s.quantity(row))
		}
		for _, sku := range skus {
			opening, _ := r.build.opening(sku, out[sku])
			cs, origin = append(cs, opening), append(origin, -1)
		}
		cs, origin = append(cs, c.commands[i]), append(origin, i)
	}
	found, err := r.send(ctx, cs)
	if err != nil {
		return nil, err
	}
	still := make(map[int]error)
	for n, refusal := range found {
		if i := origin[n]; i >= 0 {
			still[i] = refusal
		}
	}
	return still, nil
}

func (r *run) reject(rows []int32, refusal error) {
	if r.messages == nil {
		r.messages = make(map[int32]string)
	}
	var broken []string
	for _, e := range rule.All(refusal) {
		broken = append(broken, e.Error())
	}
	for _, at := range rows {
		row := &r.plan.sheet.rows[at]
		row.class, row.why = rejected, refused
		r.messages[at] = strings.Join(broken, "; ")
	}
}

// stopped says where the import has stopped.
func (r *run) stopped(c chunk, err error) error {
	where := "before its first row"
	if c.steps != nil {
		where = fmt.Sprintf("about line %d", r.plan.sheet.rows[c.steps[0].rows[0]].line)
	}
	hint := ""
	if errors.Is(err, es.ErrUnavailable) {
		hint = "; import the file again to go on"
	}
	return fmt.Errorf("onlineretail: the import of %s has stopped %s%s: %w", r.plan.sheet.name, where, hint, err)
}
