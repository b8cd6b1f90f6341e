package commands

import (
	"errors"
	"net/mail"
	"strings"

	"github.com/millrace/millrace/domain/rule"
)

// Contact is what an order knows of its buyer. It is stored sealed only.
type Contact struct {
	Email   string  `json:"email"`
	Address Address `json:"address"`
}

// Address is where goods are sent to.
type Address struct {
	Name     string `json:"name"`
	Line1    string `json:"line1"`
	Line2    string `json:"line2,omitzero"`
	City     string `json:"city"`
	Postcode string `json:"postcode,omitzero"`
	// Country is an ISO 3166-1 alpha-2 code.
	Country string `json:"country"`
}

const (
	maxEmail       = 254
	maxAddressLine = 200
	maxPostcode    = 20
)

// checkEmail returns the address without blanks at its ends, or what is wrong with it.
func checkEmail(s string) (string, *rule.Error) {
	s = strings.TrimSpace(s)
	parsed, err := mail.ParseAddress(s)
	if err != nil || parsed.Address != s || len(s) > maxEmail {
		return "", rule.New(rule.Invalid, "is not an e-mail address of at most %d characters", maxEmail)
	}
	return s, nil
}

// check returns the address without blanks at its ends, or every rule.Invalid that it breaks, joined.
func (in Address) check() (Address, error) {
	var errs []error
	text := func(s, field string, min, max int) string {
		s, err := line(s, min, max)
		if err != nil {
			errs = append(errs, err.At(field))
		}
		return s
	}
	out := Address{
		Name:     text(in.Name, "name", 1, maxAddressLine),
		Line1:    text(in.Line1, "line1", 1, maxAddressLine),
		Line2:    text(in.Line2, "line2", 0, maxAddressLine),
		City:     text(in.City, "city", 1, maxAddressLine),
		Postcode: text(in.Postcode, "postcode", 0, maxPostcode),
		Country:  strings.ToUpper(strings.TrimSpace(in.Country)),
	}
	if _, ok := CountryName(out.Country); !ok {
		errs = append(errs, rule.New(rule.Invalid, "must be the ISO 3166-1 alpha-2 code of a country, such as GB").At("country"))
	}
	return out, errors.Join(errs...)
}
