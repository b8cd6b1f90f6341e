package person

import "github.com/millrace/millrace/domain/rule"

// ErrNotFound is the refusal of a person of whom nothing is known.
var ErrNotFound = rule.New(rule.NotFound, "nothing is known of a person with this address").At("email")
