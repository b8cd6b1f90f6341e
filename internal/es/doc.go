// Package es is the vocabulary of event sourcing that the rest of Millrace speaks: events, streams,
// kinds of stream, commands and the decisions that they take.
//
// A command is a pure function of the states of the streams that it names. It may be decided several
// times before it is committed: against another head of the log, or after a stream that it turned
// out to need has been read. It therefore must not have effects of its own; whatever it wants to hand
// to its caller it assigns afresh in every run, and the run that was committed is the last.
package es
