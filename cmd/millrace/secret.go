package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const secretBytes = 32

func parseSecret(text string) ([]byte, error) {
	key, err := hex.DecodeString(text)
	if err != nil || len(key) < secretBytes {
		return nil, usageError{fmt.Errorf("the secret key must be at least %d hex digits", 2*secretBytes)}
	}
	return key, nil
}

// ensureSecret returns the data directory's secret key as hex digits, drawing it on the first run. The file is
// complete when it appears: losing half a key would lose all personal data.
func ensureSecret(dir string) (string, error) {
	file := secretFile(dir)
	content, err := os.ReadFile(file)
	if err == nil {
		key := strings.TrimSpace(string(content))
		if _, err := parseSecret(key); err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		return key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("reading the secret key: %w", err)
	}
	key := randomHex(secretBytes)
	if err := writeFileAtomically(file, []byte(key)); err != nil {
		return "", fmt.Errorf("writing the secret key: %w", err)
	}
	return key, nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// writeFileAtomically writes a file that only this user can read, all of it or nothing.
func writeFileAtomically(name string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
