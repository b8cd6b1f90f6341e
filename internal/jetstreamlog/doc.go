// Package jetstreamlog is the form in which the log lies in JetStream: the messages, their subjects, and the
// stream that holds them.
//
// The copy is one stream whose sequence n is the event at position n. Its name and its metadata carry the
// log's id and epoch, and so does every message, so that a copy of another log, or of this log before a
// failover, is recognised wherever it turns up.
//
// A message is a pure function of its event: two relays that publish position p publish equal headers and
// equal bytes, and it does not matter whose message became sequence p. The payload is the event's data as it
// is stored; everything else about the event stands in headers. Times are cut to the microseconds that the
// log keeps, so that an event handed over in memory and the same event read back give the same message.
package jetstreamlog
