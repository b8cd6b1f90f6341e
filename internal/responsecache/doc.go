// Package responsecache keeps whole answers for as long as no event has come that changes what they were read from.
//
// An answer is read at the position where the log ended before the reading began: the read models have to show everything up to
// there, or the answer is given to those who asked and not kept. With it are kept the streams and read models that it was
// read from ([projector.Reading]). Every process follows the log, and remembers where each stream and each read model was
// touched last. An entry is good if nothing that it was read from was touched behind its position, and if the log is known up to
// now: Postgres has said so a moment ago.
//
// Between an event and its being seen in the read model the old answer is as good as a new one. Nobody knows for how long
// that is, so that an entry that was touched is served for [Grace] after it was last known to be good, and then no more: towards the
// end of it whoever asks has it read anew meanwhile. It is only kept for the case that nothing can be read at all.
//
// Whoever asks while an answer is being read waits for that one. Whoever came later than Grace after the reading had begun
// takes it only if it is still good.
package responsecache
