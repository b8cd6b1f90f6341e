// Package postgres keeps the log in PostgreSQL: it reads events, and its Writer decides commands and
// appends their events in batches.
//
// # Appending
//
// The primary key on position is the compare-and-set. A process knows the head of the log and appends one
// batch at head + 1, in one transaction, if an event at head exists; a large batch is copied, see copy.go.
// When a rival has appended first, the rows violate the primary key (waiting for the rival's commit if that
// is still under way), nothing is written, and the process reads what is behind its head, brings its cached
// states up to date and decides again. No event can be inserted behind a head that is not committed, so the order of positions is the
// order of commits, and there are no gaps.
//
// While a batch is on its way the next one is decided on what it will have changed, and sent behind it: see pipeline.go. It names the batch that it
// follows, so that it is appended behind that one or not at all.
//
// Processes that are in each other's way take turns, so that each gets on and no command is decided again and again: see turn.go. What
// was decided on streams that no rival has touched is not decided again.
//
// # States
//
// Commands are decided on states in memory, which are bounded; those that nobody has used for longest go. A stream that is not in memory is
// read, for all who wait at once, while others commit: a long one from its last snapshot on, see snapshots.go. One that a decision presumes
// to be new is not read: the append finds out.
//
// # Outcomes
//
// When the connection breaks during an append, the same rows are sent again, unchanged, until the log says
// whose event stands at head + 1: the batch's id in the row tells. Only then are commands answered or
// decided again, so a batch can neither be lost after it was answered nor be done twice.
//
// A refusal, or an answer without events, is given only when the batch that it was decided with has
// committed, or when a read has confirmed that the head has not moved: the states that led to it were
// current. With an idempotency key an answer without events has a record, which is written only where the
// log still ends at the head: see keys.go.
package postgres

// SQLSTATE codes, from the appendix of the PostgreSQL manual.
const (
	uniqueViolation = "23505"
	checkViolation  = "23514" // also: no partition of the table found for the row
	undefinedTable  = "42P01"
)
