// Package payments is the process that gets orders paid: it asks the payment provider to authorise, capture, void and
// refund, and tells the log by commands what came of it.
//
// # What is to be done
//
// [Projection] keeps a list of orders and one of payments; where the two do not match there is something to do. The lists
// say where to look, nothing more: before it acts, the [Runner] folds the order and its payment from the log, and [Next]
// decides on these states. What was done is an event, so that a list that is late, lost or replayed repeats nothing.
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
// # At least once
//
// A task is claimed by moving its next attempt into the future: the claim is a lease, and whoever dies with it is followed
// by another when it ends. So every call to the provider may be repeated; it carries a key that says what it is a
// repetition of. The commands that record the outcome are idempotent by the states that they are decided on.
//
// A task that fails is tried again with growing pauses, and after [Options].MaxAttempts is parked: it stands in the table
// process_attempts with its last error, is counted by a metric, and waits for [Runner.RetryParked]. While most calls fail a
// circuit breaker keeps further ones from being made; deadlines are kept all the same.
package payments
