package text_test

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/domain/internal/text"
)

func TestWhichTextIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, s     string
		line, block bool
	}{
		{"plain", "Hanging heart", true, true},
		{"as long as may be, in characters", strings.Repeat("é", 20), true, true},
		{"too long", strings.Repeat("x", 21), false, false},
		{"empty", "", false, false},
		{"too short", "x", false, false},
		{"line break and tab", "two\r\n\tlines", false, true},
		{"NUL", "nul\x00", false, false},
		{"escape", "\x1b[31mred", false, false},
		{"next line, a control character beyond ASCII", "a\u0085b", false, false},
		{"not UTF-8", "caf\xe9", false, false},
	} {
		if err := text.Line(c.s, 2, 20); (err == nil) != c.line {
			t.Errorf("%s: as a line: %v", c.name, err)
		}
		if err := text.Block(c.s, 2, 20); (err == nil) != c.block {
			t.Errorf("%s: as a block: %v", c.name, err)
		}
	}
	if err := text.Line("", 0, 20); err != nil {
		t.Errorf("nothing, where nothing is allowed: %v", err)
	}
}
