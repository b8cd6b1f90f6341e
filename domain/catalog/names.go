package catalog

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/millrace/millrace/domain/internal/text"
	"github.com/millrace/millrace/domain/rule"
)

const (
	maxTitle       = 200
	maxDescription = 10_000
	maxVariants    = 100
	maxSlug        = 80
	maxSKU         = 64
)

// NormalSKU returns the one spelling of a SKU: without blanks at its ends, in capital letters.
func NormalSKU(s string) string { return strings.ToUpper(strings.TrimSpace(s)) }

// ValidSKU reports whether s, as NormalSKU returns it, may name a variant: 1 to 64 printable characters, among them
// blanks between others.
func ValidSKU(s string) bool {
	if s == "" || !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxSKU || s != strings.TrimSpace(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// ValidSlug reports whether s may stand in an address: 1 to 80 lower-case letters a to z and digits, with single hyphens
// between them.
func ValidSlug(s string) bool {
	if s == "" || len(s) > maxSlug {
		return false
	}
	hyphen := true
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
			hyphen = false
		case c == '-' && !hyphen:
			hyphen = true
		default:
			return false
		}
	}
	return !hyphen
}

// Slugify returns a valid slug made from a title: accents are dropped where a letter a to z is left, apostrophes
// vanish, and whatever else is no letter or digit parts words. A title with nothing to keep becomes "product".
func Slugify(title string) string {
	var b strings.Builder
	gap := false
	for _, r := range strings.ToLower(title) {
		var kept string
		switch {
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
			kept = string(r)
		case r == '\'' || r == '’' || unicode.Is(unicode.Mn, r):
			continue // a mark belongs to the letter before it
		default:
			kept = unaccented[r]
		}
		if kept == "" {
			gap = true
			continue
		}
		if gap && b.Len() > 0 {
			kept = "-" + kept
		}
		if b.Len()+len(kept) > maxSlug {
			break
		}
		gap = false
		b.WriteString(kept)
	}
	if b.Len() == 0 {
		return "product"
	}
	return b.String()
}

// unaccented has the plain spelling of the lower-case letters of European languages.
var unaccented = func() map[rune]string {
	m := make(map[rune]string)
	for plain, letters := range map[string]string{
		"a": "àáâãäåāăą", "ae": "æ", "c": "çćĉċč", "d": "ďđð", "e": "èéêëēĕėęě", "g": "ĝğġģ", "h": "ĥħ", "i": "ìíîïĩīĭįı",
		"j": "ĵ", "k": "ķ", "l": "ĺļľŀł", "n": "ñńņňŉ", "o": "òóôõöøōŏő", "oe": "œ", "r": "ŕŗř", "s": "śŝşšș", "ss": "ß",
		"t": "ţťŧț", "th": "þ", "u": "ùúûüũūŭůűų", "w": "ŵ", "y": "ýÿŷ", "z": "źżž",
	} {
		for _, r := range letters {
			m[r] = plain
		}
	}
	return m
}()

func checkTitle(s string) *rule.Error       { return text.Line(s, 1, maxTitle) }
func checkDescription(s string) *rule.Error { return text.Block(s, 0, maxDescription) }
