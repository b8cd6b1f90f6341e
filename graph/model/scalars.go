package model

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/99designs/gqlgen/graphql"

	"github.com/millrace/millrace/domain/money"
)

// InputError says that a value of an argument is not one of its type. Its text is for the client.
type InputError struct{ Message string }

func (e *InputError) Error() string { return e.Message }

func inputError(format string, args ...any) error {
	return &InputError{Message: fmt.Sprintf(format, args...)}
}

// MarshalDateTime writes a time in UTC as RFC 3339.
func MarshalDateTime(t time.Time) graphql.Marshaler {
	return graphql.WriterFunc(func(w io.Writer) {
		b := make([]byte, 0, len(time.RFC3339Nano)+2)
		b = append(b, '"')
		b = t.UTC().AppendFormat(b, time.RFC3339Nano)
		_, _ = w.Write(append(b, '"')) // a response buffer: never fails
	})
}

// UnmarshalDateTime reads a time in RFC 3339, of any offset.
func UnmarshalDateTime(v any) (time.Time, error) {
	s, ok := v.(string)
	if !ok {
		return time.Time{}, inputError("a DateTime is a string in RFC 3339, for example \"2026-11-22T09:30:00Z\"")
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, inputError("%s is not a time in RFC 3339, for example \"2026-11-22T09:30:00Z\"", quoted(s))
	}
	return t.UTC(), nil
}

// MarshalDecimal writes a decimal number that is a string already.
func MarshalDecimal(s string) graphql.Marshaler { return graphql.MarshalString(s) }

// UnmarshalDecimal takes any string: what its digits mean depends on the currency, and is a rule's to say.
func UnmarshalDecimal(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", inputError("a Decimal is a string, for example \"12.34\", so that it stays exact")
	}
	return s, nil
}

// MarshalCurrency writes a currency as its code.
func MarshalCurrency(c money.Currency) graphql.Marshaler { return graphql.MarshalString(string(c)) }

// UnmarshalCurrency reads a currency's code.
func UnmarshalCurrency(v any) (money.Currency, error) {
	s, err := graphql.UnmarshalString(v)
	return money.Currency(s), err
}

// MarshalPosition writes a position as digits.
func MarshalPosition(p int64) graphql.Marshaler {
	return graphql.WriterFunc(func(w io.Writer) {
		b := make([]byte, 0, 22)
		b = append(b, '"')
		b = strconv.AppendInt(b, p, 10)
		_, _ = w.Write(append(b, '"')) // a response buffer: never fails
	})
}

// UnmarshalPosition reads a position that was made by MarshalPosition.
func UnmarshalPosition(v any) (int64, error) {
	s, ok := v.(string)
	if !ok {
		return 0, inputError("a Position is a string as a mutation answered it")
	}
	return ParsePosition(s)
}

// ParsePosition returns the position that a client sends back, or an [InputError].
func ParsePosition(s string) (int64, error) {
	p, err := strconv.ParseInt(s, 10, 64)
	if err != nil || p < 0 || s[0] == '+' {
		return 0, inputError("%s is not a position as a mutation answered it", quoted(s))
	}
	return p, nil
}

// MarshalInt writes a number; one beyond the 32 bits of a GraphQL Int is written as the nearest that fits.
func MarshalInt(n int) graphql.Marshaler {
	return graphql.MarshalInt64(int64(max(math.MinInt32, min(n, math.MaxInt32))))
}

// UnmarshalInt reads a whole number of 32 bits.
func UnmarshalInt(v any) (int, error) {
	var n int64
	switch v := v.(type) {
	case int:
		n = int64(v)
	case int64:
		n = v
	case json.Number:
		var err error
		if n, err = v.Int64(); err != nil {
			return 0, inputError("%s is not a whole number of 32 bits", clipped(v.String()))
		}
	default:
		return 0, inputError("an Int is a whole number")
	}
	if n < math.MinInt32 || n > math.MaxInt32 {
		return 0, inputError("%d is not a whole number of 32 bits", n)
	}
	return int(n), nil
}

// quoted repeats to clients what they sent, but not at any length.
func quoted(s string) string { return strconv.QuoteToGraphic(clipped(s)) }

func clipped(s string) string {
	const most = 40
	if len(s) > most {
		s = s[:most] + "..."
	}
	return s
}
