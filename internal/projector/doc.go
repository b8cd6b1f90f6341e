// Package projector folds the log into read models: rows in PostgreSQL and documents in Redis.
//
// # Exactly once
//
// A partition's rows and its checkpoint move in one commit (PostgreSQL) or one script (Redis), and the
// checkpoint moves by compare-and-set: a worker that believes something else than what the store says
// writes nothing, reads the checkpoint again and goes on from there. That alone makes each event have its
// effect once, whoever dies, and with any number of workers on one partition. Leases only save work.
//
// # Generations
//
// A read model exists in generations. Each has tables in a schema of its own ("orders_3") and Redis keys under
// tags of its own. SQL names its tables as "orders.lines"; the engine puts the generation in. Readers resolve
// the live generation of their binary's version of the projection in the same snapshot as the rows they read, so a
// switch is one step for each reader. A generation belongs to one log and epoch; those of another are set aside.
//
// # Live and behind
//
// A [Worker] has one runner for each projection and store. Its live partitions take events from the [Feed] in the
// order of the log, one batch in flight. Partitions that are behind (just acquired, stopped, flushed) are brought
// up beside them from the log and join when they are near, so that they hold up nobody. An event that cannot be
// applied stops its own partition of its own projection, is tried again with growing pauses, and stands in the table
// projection_failures as long as it fails.
//
// While batches take long, because processors are short here or in a store, events gather for some milliseconds between them: see
// pace.go. What is shown is a little later then, and those who make the events have what was spent on many small batches.
//
// # Parked events
//
// [Models.Park] sets the event aside that a partition stands still at. The partition goes on, and the stream is held: the
// event and all behind it in its stream stay out of the rows until [Models.Retry] has them applied, in order. There are two
// records of that. The table parked_events is the list of what operators wish, for each generation and store. What a store
// really goes without is part of the partition's mark (checkpoint and held streams), which moves in the commit or script of the rows
// and by the same compare-and-set: in checkpoints.held, or in Redis in the checkpoint's own field. So a worker that has not heard
// of a park or a retry writes nothing wrong, and data that is lost takes along what was known of it. Workers bring the
// two together: what is on the list and not reached yet is held when they come to it; what is held, and is to be retried or is
// not on the list any more, is applied batch by batch, beside the live partitions, while newer events of the stream are held;
// what is on the list and applied already is struck off.
//
// A generation that is being built tries what is parked in the one before, and parks it too if it must. A read of one held stream is
// refused at a position that it would have to show; lists are served.
//
// # Rebuilds
//
// [Replay] reads the log once for all its projections and folds it into new generations beside the live ones, in large
// transactions in which the states that [Fold] keeps are written once. At the end it locks the live checkpoints, so that
// the live generation stands still, folds the last events, and switches in one commit. [Verify] builds up to
// exactly the live checkpoints in the same way and compares. What a rebuild that was killed leaves is dropped by the next one.
// Tables, checkpoints, documents and control tables that somebody deletes come back from the log by themselves.
//
// # Redis
//
// The documents of a partition and its checkpoint are one hash, and so are lost together. What Redis says counts: a lower
// checkpoint than remembered means that its data was lost, and the partition is folded again from there.
// PostgreSQL remembers how far each partition is known to have come, and readers leave documents unread whose
// checkpoint is below that: the answer for them is "ask PostgreSQL".
package projector
