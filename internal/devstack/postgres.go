package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// Names in the cluster.
const (
	superuser       = "postgres"
	applicationUser = "millrace" // owns its database; may make databases and see statistics
	replicationUser = "replicator"
	applicationDB   = "millrace"
)

// postgresServer is the flavor of the primary and, with an upstream, of a replica.
type postgresServer struct {
	programs postgresPrograms
	identity identity
	dir      string // the data directory
	cluster  string // cluster_name: the tag of the process titles
	slot     string // replicas: the replication slot at the primary
	upstream *Server
	secrets  secrets
	settings map[string]string
}

func (p *postgresServer) url(port int) string {
	return postgresURL(applicationUser, p.secrets.Application, port, applicationDB)
}

func (p *postgresServer) adminURL(port int) string {
	return postgresURL(superuser, p.secrets.Superuser, port, "postgres")
}

func postgresURL(user, password string, port int, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(user, password), Host: loopback(port),
		Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (p *postgresServer) stopSignal() syscall.Signal { return syscall.SIGINT } // fast shutdown

func (p *postgresServer) command(port int) (*exec.Cmd, error) {
	settings := p.configuration(port)
	var conf strings.Builder
	conf.WriteString("# Written at every start; changes made here are lost.\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = %s\n", name, quoteConf(settings[name]))
	}
	const hba = "# Written at every start. Passwords only, loopback only.\n" +
		"host all all 127.0.0.1/32 scram-sha-256\n" +
		"host replication " + replicationUser + " 127.0.0.1/32 scram-sha-256\n"
	if err := errors.Join(
		p.identity.writeFile(filepath.Join(p.dir, "postgresql.conf"), conf.String()),
		p.identity.writeFile(filepath.Join(p.dir, "pg_hba.conf"), hba),
		p.forgetPostmaster(),
	); err != nil {
		return nil, err
	}
	cmd := exec.Command(p.programs.path("postgres"), "-D", p.dir, "-c", "cluster_name="+p.cluster)
	p.identity.apply(cmd)
	return cmd, nil
}

// forgetPostmaster removes the pid file of a server that is gone. The caller has made sure that none runs; the pid may
// meanwhile belong to some other program, which would keep PostgreSQL from starting.
func (p *postgresServer) forgetPostmaster() error {
	if err := os.Remove(filepath.Join(p.dir, "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("devstack: removing a stale postmaster.pid: %w", err)
	}
	return nil
}

func (p *postgresServer) configuration(port int) map[string]string {
	s := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(port),
		"unix_socket_directories": "",
		"max_connections":         "200",
		"cluster_name":            p.cluster,

		// Two cores and a gigabyte or so.
		"shared_buffers":       "256MB",
		"work_mem":             "16MB",
		"maintenance_work_mem": "128MB",
		"random_page_cost":     "1.1",
		"jit":                  "off",

		// Commits are on disk before they are acknowledged; checkpoints are rare.
		"fsync":                     "on",
		"synchronous_commit":        "on",
		"synchronous_standby_names": "",
		"wal_level":                 "replica",
		"wal_compression":           "on",
		"wal_buffers":               "16MB",
		"max_wal_size":              "2GB",
		"checkpoint_timeout":        "15min",

		// Tables that just grew from nothing are planned for as they are within seconds: until they are analysed, a page of a
		// product list is read by going through all products. The checkpoints, rewritten all the time, stay small as well.
		"autovacuum_naptime": "10s",

		// A replica that stays away too long is built anew rather than fill the disk of the primary.
		"max_wal_senders":        "10",
		"max_replication_slots":  "10",
		"max_slot_wal_keep_size": "8GB",
		"wal_sender_timeout":     "10s",

		// The replica: applies at once, reports often, comes back quickly.
		"hot_standby":                  "on",
		"hot_standby_feedback":         "on",
		"wal_receiver_status_interval": "1s",
		"wal_receiver_timeout":         "10s",
		"wal_retrieve_retry_interval":  "200ms",
		"max_standby_streaming_delay":  "10s",

		"logging_collector": "off",
		"log_destination":   "stderr",
		"log_line_prefix":   "%m [%p] %q%u@%d ",
		"log_timezone":      "UTC",
		"timezone":          "UTC",
		"lc_messages":       "C",
	}
	if p.programs.lz4 {
		s["default_toast_compression"] = "lz4"
		if p.programs.major >= 15 {
			s["wal_compression"] = "lz4"
		}
	}
	if p.upstream != nil {
		s["primary_slot_name"] = p.slot
		s["primary_conninfo"] = p.upstreamConninfo()
	}
	maps.Copy(s, p.settings)
	return s
}

// upstreamConninfo is how a replica reaches the primary. Passwords have no character that needs quoting.
func (p *postgresServer) upstreamConninfo() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s sslmode=disable application_name=%s",
		p.upstream.portNumber(), replicationUser, p.secrets.Replication, p.slot)
}

// quoteConf quotes a value for postgresql.conf.
func quoteConf(v string) string {
	return "'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(v) + "'"
}

func (p *postgresServer) ping(ctx context.Context, port int) error {
	conn, err := pgx.Connect(ctx, p.adminURL(port))
	if err != nil {
		return err
	}
	return errors.Join(conn.Ping(ctx), conn.Close(ctx))
}

// initialise makes the primary's data directory unless there is one. It is made beside and moved into place when
// complete, so that a start that was killed leaves nothing half-made.
func (p *postgresServer) initialise(ctx context.Context, log *logFile) error {
	if _, err := os.Stat(filepath.Join(p.dir, "PG_VERSION")); err == nil {
		return nil
	}
	tmp := p.dir + ".new"
	password := p.dir + ".password"
	defer func() { _ = os.Remove(password) }() // best effort: it is in a directory of its own user, and in secrets.json
	if err := errors.Join(os.RemoveAll(tmp), p.identity.mkdir(tmp), p.identity.writeFile(password, p.secrets.Superuser)); err != nil {
		return err
	}
	err := p.run(ctx, log, "initdb", "-D", tmp, "--username", superuser, "--pwfile", password,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--data-checksums")
	if err != nil {
		return err
	}
	return moveIntoPlace(tmp, p.dir)
}

// copyPrimary makes a replica's data directory from the running primary.
func (p *postgresServer) copyPrimary(ctx context.Context, log *logFile) error {
	tmp := p.dir + ".new"
	if err := errors.Join(os.RemoveAll(tmp), p.identity.mkdir(tmp), os.RemoveAll(p.dir)); err != nil {
		return err
	}
	if err := p.dropSlot(ctx); err != nil {
		return err
	}
	// The connection's password goes through a file: command lines are for everybody to read.
	passfile := p.dir + ".password"
	defer func() { _ = os.Remove(passfile) }() // best effort, as above
	if err := p.identity.writeFile(passfile, "*:*:*:*:"+p.secrets.Replication+"\n"); err != nil {
		return err
	}
	conninfo := fmt.Sprintf("host=127.0.0.1 port=%d user=%s passfile='%s' sslmode=disable",
		p.upstream.portNumber(), replicationUser, strings.ReplaceAll(passfile, "'", `\'`))
	err := p.run(ctx, log, "pg_basebackup", "-D", tmp, "-d", conninfo,
		"--create-slot", "--slot", p.slot, "--checkpoint", "fast", "--wal-method", "stream")
	if err != nil {
		return err
	}
	if err := p.identity.writeFile(filepath.Join(tmp, "standby.signal"), ""); err != nil {
		return err
	}
	return moveIntoPlace(tmp, p.dir)
}

func moveIntoPlace(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("devstack: moving new data into place: %w", err)
	}
	return nil
}

// run runs one of PostgreSQL's programs to its end, as the servers' user.
func (p *postgresServer) run(ctx context.Context, log *logFile, program string, args ...string) error {
	out, err := log.open()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, p.programs.path(program), args...)
	p.identity.apply(cmd)
	cmd.Stdout, cmd.Stderr = out, out
	err = runProgram(cmd)
	if closeErr := out.Close(); err == nil && closeErr != nil {
		err = closeErr
	}
	if err != nil && ctx.Err() != nil { // it was ended, and its log tells nothing
		return fmt.Errorf("devstack: running %s: %w", program, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("devstack: %s failed (%w); its log %s ends with: %s", program, err, log.path, log.tail())
	}
	return nil
}

// dataVersion returns the major version that made the data directory, 0 if there is none.
func dataVersion(dir string) (int, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("devstack: reading the version of PostgreSQL's data: %w", err)
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || v <= 0 {
		return 0, fmt.Errorf("devstack: %s holds no version of PostgreSQL: %q", filepath.Join(dir, "PG_VERSION"), raw)
	}
	return v, nil
}

// prepare makes the roles and the database on the primary, as far as they are missing.
func (p *postgresServer) prepare(ctx context.Context, port int) error {
	conn, err := pgx.Connect(ctx, p.adminURL(port))
	if err != nil {
		return fmt.Errorf("devstack: preparing the primary: %w", err)
	}
	err = p.prepareOn(ctx, conn)
	if closeErr := conn.Close(context.WithoutCancel(ctx)); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("devstack: preparing the primary: %w", err)
	}
	return nil
}

func (p *postgresServer) prepareOn(ctx context.Context, conn *pgx.Conn) error {
	var role, replication, database bool
	err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1),
		EXISTS (SELECT FROM pg_roles WHERE rolname = $2), EXISTS (SELECT FROM pg_database WHERE datname = $3)`,
		applicationUser, replicationUser, applicationDB).Scan(&role, &replication, &database)
	if err != nil {
		return err
	}
	// Utility statements take no parameters; the names are constants and the passwords are ours.
	var statements []string
	if !role {
		statements = append(statements, fmt.Sprintf(`CREATE ROLE %s LOGIN CREATEDB PASSWORD '%s' IN ROLE pg_monitor, pg_signal_backend`,
			applicationUser, p.secrets.Application))
	}
	if !replication {
		statements = append(statements, fmt.Sprintf(`CREATE ROLE %s LOGIN REPLICATION PASSWORD '%s'`, replicationUser, p.secrets.Replication))
	}
	if !database {
		statements = append(statements, fmt.Sprintf(`CREATE DATABASE %s OWNER %s`, applicationDB, applicationUser))
	}
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// needsCopy tells whether a replica has to be made anew: it has no data, or the primary no longer keeps what it lacks.
func (p *postgresServer) needsCopy(ctx context.Context) (bool, error) {
	version, err := dataVersion(p.dir)
	if err != nil || version == 0 {
		return true, err
	}
	var usable bool
	err = p.onPrimary(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND wal_status <> 'lost')`, p.slot).Scan(&usable)
	})
	return !usable, err
}

func (p *postgresServer) dropSlot(ctx context.Context) error {
	return p.onPrimary(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1`, p.slot)
		return err
	})
}

func (p *postgresServer) onPrimary(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, p.adminURL(p.upstream.portNumber()))
	if err != nil {
		return fmt.Errorf("devstack: preparing a replica: %w", err)
	}
	err = do(conn)
	if closeErr := conn.Close(context.WithoutCancel(ctx)); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("devstack: preparing a replica: %w", err)
	}
	return nil
}
