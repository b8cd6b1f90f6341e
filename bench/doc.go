// Package bench measures Millrace, each figure as a ratio to a baseline of the same run.
//
// Absolute figures say as much about a machine as about a program, and drift with what else the machine does. A
// bench therefore measures its baseline beside the thing itself, on the same servers and in short alternating rounds, and
// the ratio is what its target is about. Servers are private ones with real fsync; what a bench makes is removed when it
// ends, and every bench bounds its own time.
//
// What runs under load in these benches is the program that people run: the writer on a real log, and for everything that
// takes a whole shop the binary itself, as "millrace up" and its subcommands in processes of their own.
//
// A flash sale is also something to be run and looked at by itself: [FlashSale]. It holds what buyers were told against the log.
package bench
