package responsecache

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/millrace/millrace/internal/projector"
)

// head is what stands before the body of an entry that processes share, on a line of its own.
type head struct {
	Reading projector.Reading `json:"reading"`
	Began   time.Time         `json:"began"`
}

func (e *entry) encode() ([]byte, error) {
	text, err := json.Marshal(head{e.reading, e.began})
	if err != nil {
		return nil, err
	}
	return append(append(text, '\n'), e.body...), nil
}

// decode returns nil for what another release may have put there.
func decode(value []byte) *entry {
	text, body, ok := bytes.Cut(value, []byte("\n"))
	var h head
	if !ok || json.Unmarshal(text, &h) != nil || h.Began.IsZero() {
		return nil
	}
	began := h.Began
	if now := time.Now(); began.After(now) { // by another machine's clock
		began = now
	}
	return newEntry(body, h.Reading, began)
}

// fetch returns the entry that another process has left, nil for none. Whether it is good is judged by what this one knows.
func (c *Cache) fetch(ctx context.Context, key Key) *entry {
	if c.o.Shared == nil {
		return nil
	}
	value, ok := c.o.Shared.Get(ctx, key)
	if !ok {
		return nil
	}
	e := decode(value)
	if e == nil || !c.known(e.reading) {
		return nil
	}
	return e
}

// share leaves an entry to the other processes. Nobody waits for that.
func (c *Cache) share(ctx context.Context, key Key, e *entry) {
	if c.o.Shared == nil || !c.begin() {
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(c.ended, cancel)
	go func() {
		defer c.fills.Done()
		defer cancel()
		defer stop()
		value, err := e.encode()
		if err != nil {
			c.o.Logger.WarnContext(ctx, "an answer cannot be shared", "error", err)
			return
		}
		c.o.Shared.Put(ctx, key, value)
	}()
}
