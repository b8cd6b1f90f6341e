package commands

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/millrace/millrace/domain/rule"
)

// at puts path before the field of every broken rule in err. Whatever has no rule in it is returned as it is.
func at(err error, path ...string) error {
	broken := rule.All(err)
	if len(broken) == 0 {
		return err
	}
	moved := make([]error, len(broken))
	for i, e := range broken {
		moved[i] = e.At(path...)
	}
	return errors.Join(moved...)
}

// replaced gives every broken rule in err another field: that of the input which led there.
func replaced(err error, field ...string) error {
	broken := rule.All(err)
	if len(broken) == 0 {
		return err
	}
	moved := make([]error, len(broken))
	for i, e := range broken {
		moved[i] = rule.New(e.Code, "%s", e.Message).At(field...)
	}
	return errors.Join(moved...)
}

// line checks text on one line, of min to max characters after blanks at its ends are gone. It returns the text without
// those and nil, or a rule.Invalid error without a field.
func line(s string, min, max int) (string, *rule.Error) {
	s = strings.TrimSpace(s)
	switch n := utf8.RuneCountInString(s); {
	case !utf8.ValidString(s):
		return "", rule.New(rule.Invalid, "is not valid UTF-8")
	case n == 0 && min > 0:
		return "", rule.New(rule.Invalid, "must not be empty")
	case n > max:
		return "", rule.New(rule.Invalid, "has %d characters, at most %d are allowed", n, max)
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", rule.New(rule.Invalid, "holds a control character")
	}
	return s, nil
}
