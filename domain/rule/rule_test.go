package rule_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/millrace/millrace/domain/rule"
)

func TestAllFindsEveryRuleInOrder(t *testing.T) {
	t.Parallel()
	first, second := rule.New(rule.Invalid, "first"), rule.New(rule.NotFound, "second")
	err := fmt.Errorf("deciding: %w", errors.Join(first, errors.New("no rule"), fmt.Errorf("deeper: %w", errors.Join(second))))
	if got := rule.All(err); !slices.Equal(got, []*rule.Error{first, second}) {
		t.Errorf("All is %v", got)
	}
	if got := rule.CodeOf(err); got != rule.Invalid {
		t.Errorf("CodeOf is %q", got)
	}
	for _, none := range []error{nil, errors.New("no rule")} {
		if got := rule.All(none); got != nil {
			t.Errorf("All(%v) is %v", none, got)
		}
		if got := rule.CodeOf(none); got != "" {
			t.Errorf("CodeOf(%v) is %q", none, got)
		}
	}
}

func TestAtPutsThePathFirstAndLeavesTheRuleAlone(t *testing.T) {
	t.Parallel()
	bare := rule.New(rule.Invalid, "%d is too many", 7)
	placed := bare.At("sku").At("lines", "0").At("input")
	if want := []string{"input", "lines", "0", "sku"}; !slices.Equal(placed.Field, want) {
		t.Errorf("the field is %q, want %q", placed.Field, want)
	}
	if bare.Field != nil {
		t.Errorf("the first error now has the field %q", bare.Field)
	}
	if !errors.Is(placed, bare) {
		t.Error("the rule is another one at another place")
	}
	if errors.Is(placed, rule.New(rule.Conflict, "7 is too many")) {
		t.Error("a rule of another code is the same")
	}
	if got, want := placed.Error(), "INVALID: input.lines.0.sku: 7 is too many"; got != want {
		t.Errorf("the text is %q, want %q", got, want)
	}
	if got, want := rule.New(rule.Invalid, "100% wrong").Error(), "INVALID: 100% wrong"; got != want {
		t.Errorf("the text is %q, want %q", got, want)
	}
}
