// Package relay copies the log from Postgres to JetStream, so that sequence n of the one stream on millrace.> is
// the event at position n, whatever happens to the relay, to its rivals, or to JetStream.
//
// The checkpoint is the stream's own last sequence. Nothing else is remembered: it is asked for at the start, after
// whatever went wrong, and when there has been nothing to do for a while. Every message expects the sequence before
// its own, and names the stream it is meant for; JetStream refuses it otherwise. As a message is a pure function of
// its event, it does not matter whether this relay, a rival, or one that was believed dead wrote sequence n.
//
// Events go out in runs of up to a thousand. Only the last message of a run asks for an acknowledgement: it expects
// the one before it, so that its acknowledgement is that of the whole run. A refusal says nothing about what went
// before, so the relay asks the stream again; should it not get on, it sends one event at a time until it does, which
// tells what JetStream has against it.
//
// JetStream is a copy and may be wrong. Before a relay writes to a stream it makes sure that the stream belongs to
// this log and epoch, has no hole, begins where it should, is not ahead of the log, and has the log's event at its
// end. A stream that fails is set aside, under a subject of its own, as the relay has no right to delete, and the
// copy begins afresh in a new stream. A stream that vanished is created again.
//
// A relay is woken by [Relay.Offer] in its own process, by [Poke] from others, and looks at the log by itself all the
// same. Several may copy one log. Nobody elects a leader, who might be cut off from JetStream and not from those who
// elect: a relay that gets nowhere because a rival is faster steps back for a moment, so that nearly always one works,
// and another takes over at once when that one stops for whatever reason.
package relay
