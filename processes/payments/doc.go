// Package payments is the process that gets orders paid: it asks the payment provider to authorise, capture, void and
// refund, and tells the log by commands what came of it.
//
// # What is to be done
//
// [Projection] keeps a list of orders and one of payments; where the two do not match there is something to do. The lists
// say where to look, nothing more: before it acts, the [Runner] asks for the order and its payment as they stand at the head
// of the log, and [Next] decides on these states. What was done is an event, so that a list that is late, lost or replayed
// repeats nothing.
//
//	order                  payment      to do
//	PENDING                unknown      authorise; after the deadline: expire, which cancels the order
//	CANCELLED              unknown      a while later: void, in case that an answer of the provider was lost
//	CANCELLED              AUTHORISED   void: the authorisation arrived too late, or the buyer called the order off
//	FULFILLED, RETURNED    AUTHORISED   capture
//	units returned         CAPTURED     refund what they had cost
//
// Imported orders are history, and are in neither list.
//
// # Crowds
//
// The feed tells when to look; while it tells nothing, looks are seconds apart. A look takes as many tasks as there is room
// for, and these share what can be shared: one query finds them, one statement claims them, one look at the log (through the
// write path, which has most of it in memory) reads what they are decided on, and their commands go into common commits.
// Then each is on its own, so that a call that hangs holds up nobody else. Each kind of work has room of its own: deadlines
// do not wait for calls, nor first attempts for those that have failed before. The room also bounds what a burst of payments
// adds to a commit that a checkout waits for.
//
// # At least once
//
// A task is claimed by moving its next attempt into the future: the claim is a lease, which keeps processes from doing the
// same, and whoever dies with it is followed by another when it ends. So every call to the provider may be repeated; it carries a key that says what it is a
// repetition of. The commands that record the outcome are idempotent by the states that they are decided on.
//
// A task that fails is tried again with growing pauses, of a minute at most. As long as nothing is heard of the outcome, captures,
// voids and refunds go on for as long as it takes: the money is owed. Parked is what the provider refuses, at once, and what
// fails [Options].MaxAttempts times otherwise, authorisations among it: it stands in the table process_attempts with its last error,
// is counted by a metric, and waits for [RetryParked]. While most calls fail a circuit breaker keeps further ones from being
// made; deadlines are kept all the same.
package payments
