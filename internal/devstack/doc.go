// Package devstack starts private real servers on this machine: a PostgreSQL primary with streaming
// replicas and a Redis (or Valkey) as child processes, and NATS JetStream inside this process.
//
// Everything lives below one data directory and listens on loopback only, on ports that nobody else
// uses, behind random passwords:
//
//	LAYOUT          the version of this layout
//	lock            held (flock) by the one process that runs the servers; its content is that process's id
//	stack.json      where the servers of a running stack listen, with their passwords (mode 0600)
//	ports.json      the ports, so that a restart keeps them where they are still free
//	secrets.json    the passwords (mode 0600)
//	postgres/       primary, replica-1, ... : PostgreSQL data directories
//	redis/          the append-only file and redis.conf
//	nats/           the JetStream store
//	log/            one log file a server
//
// Children never outlive their parent by design, and nothing depends on it. They run in process groups of
// their own, so that Ctrl-C in a terminal reaches only the parent, which stops them in its own time. When the
// parent is killed, Linux asks the children to end (the parent-death signal); a child that does not, for
// example because it was stopped, is found by the next Start through its command line and ended there.
//
// PostgreSQL refuses to run as root. When this process is root the servers run as the user postgres, or
// nobody, who owns the directories of the servers' data. If that user cannot enter the data directory because an
// ancestor is closed to him (a checkout below /root), the children are given the capability to search
// directories (CAP_DAC_READ_SEARCH, else CAP_DAC_OVERRIDE) and nothing else of root's.
package devstack
