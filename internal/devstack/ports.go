package devstack

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are picked below the range from which Linux and macOS give ports to outgoing connections: a connection
// that happens to sit on a server's port would keep it from coming back on the same one.
const (
	lowestPort  = 20000
	highestPort = 32000
)

// ports remembers which port each server has. Safe for use by several goroutines.
type ports struct {
	path string
	mu   sync.Mutex
	byID map[string]int
}

func (d *dataDir) loadPorts() (*ports, error) {
	p := &ports{path: d.join("ports.json"), byID: map[string]int{}}
	_, err := readJSON(p.path, &p.byID)
	return p, err
}

// take returns the port a server had before if it is still free, otherwise another one that is.
func (p *ports) take(ctx context.Context, id string) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.byID[id]; old != 0 && portFree(ctx, old) {
		return old, nil
	}
	port, err := freePort(ctx, p.taken)
	if err != nil {
		return 0, err
	}
	p.byID[id] = port
	return port, writeJSON(p.path, p.byID)
}

// taken tells whether another server of this stack has the port, also one that is not listening now.
func (p *ports) taken(port int) bool {
	for _, other := range p.byID {
		if other == port {
			return true
		}
	}
	return false
}

// freePort picks a port on which nobody listens and which is not taken in another way.
func freePort(ctx context.Context, taken func(int) bool) (int, error) {
	for range 200 {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		if !taken(port) && portFree(ctx, port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("devstack: found no free port between %d and %d on 127.0.0.1", lowestPort, highestPort)
}

// portFree tells whether a server could listen on a port of the loopback address.
func portFree(ctx context.Context, port int) bool {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", loopback(port))
	return err == nil && l.Close() == nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
