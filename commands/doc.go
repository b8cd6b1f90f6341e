// Package commands is the list of what the product does: one file a use case.
//
// A use case is a struct with its inputs and a method of [App] of the same name. The method checks what no state could
// make acceptable, then hands a command to the log's executor; the command's Decide gathers the states of the streams
// that it concerns, lets the domain decide on each, and appends what follows, all of it or nothing. What the caller
// gets back is the decided state and the position of the effect, never a read model.
//
// What a person can mend comes back as one or several *rule.Error, joined, whose fields are paths from the arguments of
// the API (input, lines, 0, sku); read them with rule.All. Any other error means that the command could not be done now.
//
// Imports (the files import_*.go) build their commands without executing them, so that many can be executed together.
package commands
