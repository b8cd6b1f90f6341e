package projectortest

import (
	"errors"
	"strings"
	"sync"
)

// said is what the engine has to say to a case that does not come to an end; nil if that is nothing.
func (t *trial) said() error {
	if text := t.logged.String(); text != "" {
		return errors.New(text)
	}
	return nil
}

// transcript keeps the first pages of what is logged.
type transcript struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write never fails.
func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text.Len() < 10_000 {
		t.text.Write(p)
	}
	return len(p), nil
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
