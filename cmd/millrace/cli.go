package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"
	"github.com/redis/go-redis/v9"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1 // the work failed, or what was checked is wrong
	exitUsage = 2 // the command line or a setting is wrong
)

// version is set at build time.
var version = "development"

// cli is the command line: one field a subcommand.
type cli struct {
	Up          upCommand          `cmd:"" help:"Run a whole shop on this machine: private servers, and every role in one process."`
	API         apiCommand         `cmd:"" name:"api" help:"Serve GraphQL."`
	Relay       relayCommand       `cmd:"" help:"Copy the log to JetStream."`
	Worker      workerCommand      `cmd:"" help:"Keep read models; start as many as you like, they share the work."`
	Process     processCommand     `cmd:"" help:"Do what events ask for: payments and their deadlines."`
	Import      importCommand      `cmd:"" help:"Import real data through the command path."`
	Replay      replayCommand      `cmd:"" help:"Rebuild read models from the log while queries go on."`
	Projections projectionCommands `cmd:"" help:"List the read models; park and retry events that they cannot apply."`
	Payments    paymentCommands    `cmd:"" help:"List and retry what was given up on of payments."`
	Events      eventsCommand      `cmd:"" help:"Show the log."`
	Verify      verifyCommand      `cmd:"" help:"Prove that the log, JetStream and the read models agree."`
	Migrate     migrateCommand     `cmd:"" help:"Bring a database to this release's schema."`
	Epoch       epochCommand       `cmd:"" help:"Show the log's epoch; --raise has everything that was derived from the log derived again, as after a restore."`
	Bench       benchCommand       `cmd:"" help:"Measure, each figure against a baseline of the same run."`

	BenchPlain benchPlainCommand `cmd:"" hidden:""`

	Version kong.VersionFlag `help:"Print the version."`
	Verbose bool             `short:"v" help:"Log more."`
}

// console is where a command prints: results to out, progress and logs to err.
type console struct {
	out, err io.Writer
	log      *slog.Logger
}

// usageError is an error that the caller of the command mends, not the operator of the servers.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// newParser returns a parser of the command line.
func newParser(c *cli, options ...kong.Option) (*kong.Kong, error) {
	parser, err := kong.New(c, append(options, kong.Name("millrace"),
		kong.Description("A commerce backend that keeps its footing when the crowd arrives."), kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.ValueFormatter(helpOf), kong.Vars{"version": version},
		kong.ExplicitGroups([]kong.Group{{Key: "sale", Title: "One flash sale, of the bench flash-sale alone:"}}))...)
	if err != nil {
		return nil, err
	}
	return parser, kong.Visit(parser.Model, ignoreEmpty)
}

// run is the program without the process: it parses args, runs the subcommand and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	exited := -1
	parser, err := newParser(&c, kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }))
	if err != nil {
		fmt.Fprintln(stderr, "millrace:", err)
		return exitUsage
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(joinNegative(args))
	if exited >= 0 {
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "millrace: %v\nTry: millrace %s--help\n", err, subcommandOf(parser, args))
		return exitUsage
	}
	out := &console{out: stdout, err: stderr, log: newLogger(stderr, c.Verbose)}
	slog.SetDefault(out.log)
	redis.SetLogger(redisLog{out.log})
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(out)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, "millrace:", err)
		return exitUsage
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(stderr, "millrace: interrupted")
		return exitError
	default:
		fmt.Fprintln(stderr, "millrace:", err)
		return exitError
	}
}

// ignoreEmpty has a flag look only at variables of the environment that are not empty: MILLRACE_X= is the same as none.
func ignoreEmpty(node kong.Visitable, next kong.Next) error {
	if flag, ok := node.(*kong.Flag); ok {
		flag.Tag.Envs = slices.DeleteFunc(slices.Clone(flag.Tag.Envs), func(name string) bool { return os.Getenv(name) == "" })
	}
	return next(nil)
}

// helpOf is the help of a flag or an argument, with its default, where a placeholder hides that, and its variable.
func helpOf(v *kong.Value) string {
	var notes []string
	if v.HasDefault && v.Flag != nil && (v.Flag.PlaceHolder != "" || v.IsBool()) {
		notes = append(notes, "default: "+v.Default)
	}
	if v.Flag != nil {
		notes = append(notes, v.Flag.Envs...)
	}
	if len(notes) == 0 {
		return v.Help
	}
	return strings.TrimSuffix(v.Help, ".") + " (" + strings.Join(notes, "; ") + ")."
}

var negative = regexp.MustCompile(`^-[0-9]`)

// joinNegative makes one argument of a flag and a number below zero, which would be taken for flags itself: what is wrong with the number is for the
// command to say.
func joinNegative(args []string) (joined []string) {
	for i, arg := range args {
		if arg == "--" {
			return append(joined, args[i:]...)
		}
		if i > 0 && negative.MatchString(arg) && strings.HasPrefix(args[i-1], "--") && !strings.Contains(args[i-1], "=") {
			joined[len(joined)-1] += "=" + arg
			continue
		}
		joined = append(joined, arg)
	}
	return joined
}

// redisLog is where the Redis client tells of its connections; what that means for the shop its users tell.
type redisLog struct{ log *slog.Logger }

// Printf is part of the client's interface.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.log.DebugContext(ctx, fmt.Sprintf(format, args...))
}

// subcommandOf returns the subcommand that args begin with, and a space, for a hint at its help.
func subcommandOf(parser *kong.Kong, args []string) string {
	node, path := parser.Model.Node, ""
	for _, arg := range args {
		at := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == arg })
		if at < 0 {
			break
		}
		node = node.Children[at]
		path += arg + " "
	}
	return path
}

// newLogger logs for people on a terminal and as JSON otherwise.
func newLogger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	if isTerminal(w) {
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: "15:04:05.000"}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
