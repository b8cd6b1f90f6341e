package web

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

// Health answers whether a process lives and whether it can serve.
type Health struct {
	// Ready returns nil when the process can serve; nil stands for always.
	Ready func(ctx context.Context) error
	// LeftAlone, if not nil, names what the process does without at present. It is ready all the same, and says so.
	LeftAlone func() []string
	// Metrics serves the process's metrics; nil for none.
	Metrics http.Handler

	draining atomic.Bool
}

var errDraining = errors.New("shutting down")

// Drain makes the process not ready, for good.
func (h *Health) Drain() { h.draining.Store(true) }

// readyTimeout bounds how long somebody waits to hear whether the process is ready.
const readyTimeout = 2 * time.Second

// Handler serves /healthz, /readyz and /metrics, and hands everything else to next, which may be nil.
func (h *Health) Handler(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", h.ready)
	if h.Metrics != nil {
		mux.Handle("GET /metrics", h.Metrics)
	}
	if next != nil {
		mux.Handle("/", next)
	}
	return mux
}

func (h *Health) ready(w http.ResponseWriter, r *http.Request) {
	err := h.check(r.Context())
	if err != nil {
		say(w, http.StatusServiceUnavailable, "not ready: "+err.Error()+"\n")
		return
	}
	text := "ready\n"
	if h.LeftAlone != nil {
		for _, name := range h.LeftAlone() {
			text += "without " + name + "\n"
		}
	}
	say(w, http.StatusOK, text)
}

func (h *Health) check(ctx context.Context) error {
	if h.draining.Load() {
		return errDraining
	}
	if h.Ready == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return h.Ready(ctx)
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // whoever asked and has gone needs no answer
}
