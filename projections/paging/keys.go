package paging

import (
	"strconv"
	"strings"
	"time"
)

// TimeKey is the text form of a time as a key.
func TimeKey(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// IsTime reports whether a text is a time's key.
func IsTime(key string) bool {
	_, err := time.Parse(time.RFC3339Nano, key)
	return err == nil
}

// IsInteger reports whether a text is the key of a whole number of 64 bits.
func IsInteger(key string) bool {
	_, err := strconv.ParseInt(key, 10, 64)
	return err == nil
}

// IsNumber reports whether a text is the key of a finite floating-point number, in decimal notation. What is too small for
// its type is none to PostgreSQL, but 0 to Go.
func IsNumber(key string) bool {
	f, err := strconv.ParseFloat(key, 64)
	mantissa, _, _ := strings.Cut(strings.ToLower(key), "e")
	return err == nil && strings.Trim(key, "+-.0123456789eE") == "" && (f != 0 || !strings.ContainsAny(mantissa, "123456789"))
}

// IsText reports whether a text can be a key that is a text: PostgreSQL's cannot hold the character NUL.
func IsText(key string) bool {
	for i := range len(key) {
		if key[i] == 0 {
			return false
		}
	}
	return true
}
