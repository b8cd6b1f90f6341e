package web

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	// refusal is what a connection over the limit hears before anything is read from it.
	refusal = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
	// lingering is how many connections that are refused are kept for a moment, and linger how long at most: a connection closed with
	// something unread in it is reset, and its client may never see the answer.
	lingering = 256
	linger    = 500 * time.Millisecond
)

// LimitConnections returns the listener with at most so many connections open at a time. One more is answered with 503 and closed at once:
// it does not wait for others to end. Metrics may be nil.
func LimitConnections(l net.Listener, most int, metrics prometheus.Registerer) net.Listener {
	with := promauto.With(metrics)
	limited := &limitedListener{Listener: l, most: int64(most), lingering: make(chan struct{}, lingering)}
	with.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_http_connections", Help: "Connections of clients that are open.",
	}, func() float64 { return float64(limited.open.Load()) })
	limited.refused = with.NewCounter(prometheus.CounterOpts{
		Name: "millrace_http_connections_refused_total", Help: "Connections refused because as many were open as may be.",
	})
	return limited
}

type limitedListener struct {
	net.Listener
	most      int64
	open      atomic.Int64
	lingering chan struct{}
	refused   prometheus.Counter
}

// Accept returns the next connection that there is room for.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most {
			return &limitedConn{Conn: c, leave: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		l.refused.Inc()
		select {
		case l.lingering <- struct{}{}:
			go func() {
				refuse(c)
				<-l.lingering
			}()
		default:
			_ = c.Close() // nobody waits for the outcome
		}
	}
}

// refuse says no, and waits for the client to have heard it.
func refuse(c net.Conn) {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(linger))
	if _, err := io.WriteString(c, refusal); err != nil {
		return
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(c, maxHeaderBytes)) // until the client hangs up
	}
}

type limitedConn struct {
	net.Conn
	leave func()
}

// Close makes room for another connection.
func (c *limitedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
