// Package feed hands the events of the log to the readers of one process: in order, each decoded once, without
// a hole, for as long as either JetStream or Postgres delivers.
//
// A Feed keeps the last events in memory, a window without gaps that ends at Head. Two sources extend it, and
// whichever has the next position first wins:
//
//   - JetStream, within a millisecond of the commit. A message is taken only if it is exactly the next position,
//     belongs to this log and this epoch, and is the next of its partition; anything else is a hole or a foreign
//     copy.
//   - Postgres, which is asked for its head all the time (every 50 ms while JetStream delivers, every 10 ms while it
//     does not) and is read whenever it is ahead of what JetStream brought. It fills every hole.
//
// So neither what is delivered nor that it is delivered depends on JetStream, which only makes it fast. While Postgres
// is down and JetStream delivers, the feed goes on; while both are down its readers wait.
//
// A reader that starts behind the window is served pages from Postgres until it has caught up.
//
// The feed believes that an event in JetStream is committed, because relays publish nothing else. Should the log
// nevertheless turn out to be shorter than what was seen (a restore or a failover that lost commits), Run ends with
// [ErrLogWentBack]: what this process has in memory is not the log any more, and it has to start again.
package feed
