package devstack

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// layoutVersion is written to the data directory; a directory of another version is refused.
const layoutVersion = "1"

// dataDir is the data directory of a stack, locked by this process.
type dataDir struct {
	path string // absolute
	lock *os.File
}

// openDir creates the data directory where needed, takes its lock and checks its layout.
func openDir(path string, log *slog.Logger) (*dataDir, error) {
	if path == "" {
		return nil, errors.New("devstack: no data directory was named")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("devstack: data directory %s: %w", path, err)
	}
	// The servers' user has to pass through the directory; what is secret in it has a mode of its own.
	if err := os.MkdirAll(abs, 0o711); err != nil {
		return nil, fmt.Errorf("devstack: creating the data directory: %w", err)
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return nil, fmt.Errorf("devstack: data directory %s: %w", path, err)
	}
	d := &dataDir{path: abs}
	if err := d.acquire(log); err != nil {
		return nil, err
	}
	if err := d.checkLayout(); err != nil {
		return nil, errors.Join(err, d.release())
	}
	return d, nil
}

func (d *dataDir) join(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// acquire takes the lock of the directory. The kernel frees a flock when its holder ends, however it ends, so the
// lock itself is never stale; a process id left in the file only tells that its writer did not end in order.
func (d *dataDir) acquire(log *slog.Logger) error {
	f, err := os.OpenFile(d.join("lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("devstack: opening the lock of the data directory: %w", err)
	}
	holder := readHolder(f)
	if err := lockSoon(f); err != nil {
		closeErr := f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return errors.Join(fmt.Errorf("devstack: locking the data directory %s: %w", d.path, err), closeErr)
		}
		return fmt.Errorf("devstack: the data directory %s is in use by %s", d.path, holder)
	}
	if holder != unknownHolder {
		log.Info("the data directory was left by a process that did not end in order; going on with its data",
			"dir", d.path, "holder", holder)
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return errors.Join(fmt.Errorf("devstack: writing the lock of the data directory %s: %w", d.path, err), f.Close())
	}
	d.lock = f
	return nil
}

// lockSoon takes the lock, or fails when somebody holds it for longer than [Find] does, which looks whether it is held.
func lockSoon(f *os.File) error {
	const attempts, pause = 5, 20 * time.Millisecond
	var err error
	for range attempts {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		time.Sleep(pause)
	}
	return err
}

// release empties the lock file and lets go of the lock.
func (d *dataDir) release() error {
	return errors.Join(d.lock.Truncate(0), d.lock.Close())
}

const unknownHolder = "another process"

func readHolder(f *os.File) string {
	buf := make([]byte, 32)
	n, _ := f.ReadAt(buf, 0) // a short read is the rule; an unreadable lock names no holder
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		return unknownHolder
	}
	return "process " + strconv.Itoa(pid)
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

func (d *dataDir) checkLayout() error {
	path := d.join("LAYOUT")
	got, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// A data directory from before LAYOUT was written, or somebody else's: never adopt its contents.
		if _, err := os.Stat(d.join("postgres")); err == nil {
			return fmt.Errorf("devstack: %s holds server data but no LAYOUT file, so it was not made by this program; "+
				"name another data directory", d.path)
		}
		return writeFile(path, []byte(layoutVersion+"\n"), 0o644)
	case err != nil:
		return fmt.Errorf("devstack: reading the layout version: %w", err)
	}
	if v := strings.TrimSpace(string(got)); v != layoutVersion {
		return fmt.Errorf("devstack: the data directory %s has layout version %q and this program reads version %q; "+
			"run the release that made it, or name another data directory", d.path, v, layoutVersion)
	}
	return nil
}

// secrets are the passwords of the servers, made once for a data directory.
type secrets struct {
	Superuser   string `json:"superuser"`
	Application string `json:"application"`
	Replication string `json:"replication"`
	Redis       string `json:"redis"`
	NATS        string `json:"nats"`
}

// loadSecrets reads the passwords, and makes them on the first start.
func (d *dataDir) loadSecrets() (secrets, error) {
	var s secrets
	found, err := readJSON(d.join("secrets.json"), &s)
	if err != nil || found {
		return s, err
	}
	s = secrets{randomPassword(), randomPassword(), randomPassword(), randomPassword(), randomPassword()}
	return s, writeJSON(d.join("secrets.json"), s)
}

// randomPassword has 192 bits and only characters that need no escaping in a URL or a configuration file.
func randomPassword() string {
	b := make([]byte, 24)
	rand.Read(b) //nothing to check: it never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// readJSON tells whether the file exists and decodes it into v.
func readJSON(path string, v any) (found bool, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("devstack: reading %s: %w", path, err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return false, fmt.Errorf("devstack: reading %s: %w", path, err)
	}
	return true, nil
}

func writeJSON(path string, v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("devstack: encoding %s: %w", path, err)
	}
	return writeFile(path, buf.Bytes(), 0o600)
}

// writeFile replaces a file in one step, so that a killed process leaves the old content or the new.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, content, mode); err != nil {
		return fmt.Errorf("devstack: writing %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("devstack: writing %s: %w", path, err)
	}
	return nil
}
