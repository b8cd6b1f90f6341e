// Package person decides when a person is forgotten.
//
// A person is the stream person-<subject>, named by the keyed hash of an e-mail address. Nothing else about the person is in it: what others record about
// people is sealed under a key of the person's, and forgetting is deleting that key, which the domain cannot do itself. The stream says that it was to be done,
// and when.
package person
