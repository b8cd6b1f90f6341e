// Package text says which text from people may enter an event.
package text

import (
	"unicode"
	"unicode/utf8"

	"github.com/millrace/millrace/domain/rule"
)

// Line checks text that stands on one line: valid UTF-8 without control characters, of at least min and at most max
// characters. It returns nil or a rule.Invalid error without a field.
func Line(s string, min, max int) *rule.Error { return check(s, min, max, false) }

// Block checks text that may hold line breaks and tabs, and otherwise the same as Line does.
func Block(s string, min, max int) *rule.Error { return check(s, min, max, true) }

func check(s string, min, max int, breaks bool) *rule.Error {
	if !utf8.ValidString(s) {
		return rule.New(rule.Invalid, "is not valid UTF-8")
	}
	n := utf8.RuneCountInString(s)
	switch {
	case n < min && n == 0:
		return rule.New(rule.Invalid, "must not be empty")
	case n < min:
		return rule.New(rule.Invalid, "must have at least %d characters", min)
	case n > max:
		return rule.New(rule.Invalid, "has %d characters, at most %d are allowed", n, max)
	}
	for _, r := range s {
		if unicode.IsControl(r) && (!breaks || r != '\n' && r != '\r' && r != '\t') {
			return rule.New(rule.Invalid, "holds the control character %U", r)
		}
	}
	return nil
}
