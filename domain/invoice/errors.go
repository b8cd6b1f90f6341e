package invoice

import "github.com/millrace/millrace/domain/rule"

func errPlace(n int) *rule.Error {
	return rule.New(rule.Invalid, "places on an invoice are counted from 1, not %d", n).At("lines")
}
