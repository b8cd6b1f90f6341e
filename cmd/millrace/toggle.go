package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// toggle is a setting that is on or off. A flag without a word is on.
type toggle bool

// The words for both.
var (
	wordsOn  = []string{"on", "true", "yes", "1"}
	wordsOff = []string{"off", "false", "no", "0"}
)

// Decode implements [kong.MapperValue].
func (t *toggle) Decode(ctx *kong.DecodeContext) error {
	if !ctx.Scan.Peek().IsValue() {
		*t = true
		return nil
	}
	word := strings.ToLower(ctx.Scan.Pop().String())
	switch {
	case slices.Contains(wordsOn, word):
		*t = true
	case slices.Contains(wordsOff, word):
		*t = false
	default:
		return fmt.Errorf("must be on or off, not %q", word)
	}
	return nil
}

// IsBool implements [kong.BoolMapperValue].
func (t *toggle) IsBool() bool { return true }
