package devstack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Endpoints are where the servers of a stack listen, with their passwords.
type Endpoints struct {
	PostgresURL string   `json:"postgres_url"`
	AdminURL    string   `json:"admin_url"`
	ReplicaURLs []string `json:"replica_urls"`
	RedisURL    string   `json:"redis_url"`
	NATSURL     string   `json:"nats_url"`
}

// Endpoints returns where the servers of the stack listen.
func (s *Stack) Endpoints() Endpoints {
	e := Endpoints{PostgresURL: s.PostgresURL(), AdminURL: s.AdminURL(), RedisURL: s.RedisURL(), NATSURL: s.NATSURL()}
	for _, replica := range s.replicas {
		e.ReplicaURLs = append(e.ReplicaURLs, replica.URL())
	}
	return e
}

// ErrNotRunning is wrapped by the error of [Find] when no stack runs on the directory.
var ErrNotRunning = errors.New("is not running")

// Find returns where the servers of the stack listen that another process runs on a data directory.
func Find(dir string) (Endpoints, error) {
	notRunning := fmt.Errorf("the stack of %s %w", dir, ErrNotRunning)
	lock, err := os.Open(filepath.Join(dir, "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return Endpoints{}, notRunning
	}
	if err != nil {
		return Endpoints{}, fmt.Errorf("devstack: looking for a running stack: %w", err)
	}
	defer func() { _ = lock.Close() }() // it was only read
	// A shared lock that can be had tells that nobody holds the exclusive one.
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err == nil {
		return Endpoints{}, notRunning
	}
	var e Endpoints
	found, err := readJSON(EndpointsFile(dir), &e)
	if err != nil {
		return Endpoints{}, err
	}
	if !found {
		return Endpoints{}, fmt.Errorf("the stack of %s is still starting: %w", dir, ErrNotRunning)
	}
	return e, nil
}

// EndpointsFile is where a stack that runs on a data directory tells its [Endpoints], as JSON.
func EndpointsFile(dir string) string { return filepath.Join(dir, "stack.json") }

// publish tells other processes where the servers listen.
func (d *dataDir) publish(e Endpoints) error { return writeJSON(EndpointsFile(d.path), e) }

func (d *dataDir) unpublish() error {
	if err := os.Remove(EndpointsFile(d.path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("devstack: removing the list of endpoints: %w", err)
	}
	return nil
}

// ReadEndpoints reads a file of endpoints, as [WriteEndpoints] writes it.
func ReadEndpoints(file string) (Endpoints, error) {
	var e Endpoints
	found, err := readJSON(file, &e)
	if err == nil && !found {
		err = fmt.Errorf("devstack: reading %s: %w", file, fs.ErrNotExist)
	}
	return e, err
}

// WriteEndpoints writes a file of endpoints that only this process's user can read.
func WriteEndpoints(file string, e Endpoints) error { return writeJSON(file, e) }
