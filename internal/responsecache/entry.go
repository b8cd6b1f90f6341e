package responsecache

import (
	"crypto/sha256"
	"encoding/base64"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/projector"
)

// entry is an answer that was read at a position.
type entry struct {
	body    []byte
	etag    string
	reading projector.Reading
	began   time.Time // when the reading began

	asOf     atomic.Int64 // the position as of which it is known to be good
	good     atomic.Int64 // when that was, in nanoseconds after began
	outdated atomic.Bool  // it has been counted
}

// overhead is about what an entry takes beside its body and its streams' names.
const overhead = 512

func newEntry(body []byte, reading projector.Reading, began time.Time) *entry {
	e := &entry{body: body, etag: ETag(body), reading: reading, began: began}
	e.asOf.Store(reading.Position)
	return e
}

// ETag returns a strong validator of a body.
func ETag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:18]) + `"`
}

func (e *entry) weight() uint32 {
	n := overhead + len(e.body)
	for _, s := range e.reading.Streams {
		n += len(s) + 16
	}
	return uint32(n)
}

// goodAt is when the entry was last known to be good.
func (e *entry) goodAt() time.Time { return e.began.Add(time.Duration(e.good.Load())) }

// confirm notes that the entry is good as of a position, at a time.
func (e *entry) confirm(position int64, at time.Time) {
	raise(&e.asOf, position)
	raise(&e.good, int64(at.Sub(e.began)))
}

func raise(v *atomic.Int64, to int64) {
	for {
		old := v.Load()
		if old >= to || v.CompareAndSwap(old, to) {
			return
		}
	}
}

// verdict is what an entry is good for.
type verdict int

const (
	// good: nothing has changed.
	good verdict = iota
	// passing: something has changed, or may have, only just now.
	passing
	// outdated: only while nothing else can be had.
	outdated
)

// judge says what an entry is good for now.
func (c *Cache) judge(e *entry, now time.Time) verdict {
	if c.isGood(e, now) {
		return good
	}
	if now.Sub(e.goodAt()) < Grace {
		return passing
	}
	if !e.outdated.Swap(true) {
		c.metrics.outdated.Inc()
	}
	return outdated
}

// isGood reports whether nothing that an entry was read from has changed, as is known for certain.
func (c *Cache) isGood(e *entry, now time.Time) bool {
	if now.Sub(e.began) >= c.o.MaxAge || !c.o.Models.Shows(e.reading) {
		return false
	}
	seen, asOf := c.touches.seen.Load(), e.asOf.Load()
	position, at, more := c.o.Feed.Confirmed()
	if seen < position || asOf < seen && !c.touches.untouched(&e.reading, asOf) {
		return false
	}
	certain := !more && now.Sub(at) < certainty // what is on its way may concern it
	if certain {
		at = now
	}
	e.confirm(seen, at)
	return certain
}
