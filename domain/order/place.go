package order

import (
	"errors"
	"strconv"
	"time"

	"github.com/millrace/millrace/domain/internal/text"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/personal"
	"github.com/millrace/millrace/domain/rule"
)

// Place makes an order. Its fields are those of Placed; the total is computed here.
type Place struct {
	// Number has 1 to 64 characters on one line.
	Number string
	// Lines whose id is empty get their place, counted from 1, for an id. A SKU may stand in several lines.
	Lines        []PlacedLine
	Currency     money.Currency
	Cart         string
	Subject      string
	Contact      personal.Sealed
	PaymentToken personal.Sealed
	Customer     string
	Country      string
	Imported     bool
	PlacedAt     time.Time
	PaymentDue   time.Time
	// ExpectedTotal is what the buyer thinks to pay; nil if that was not said.
	ExpectedTotal *money.Money
}

// Decide answers with Placed, ErrExists, every rule.Invalid that the input breaks, joined, or rule.TotalChanged.
func (c Place) Decide(s State) ([]Event, error) {
	if s.Exists() {
		return nil, ErrExists
	}
	lines, err := c.check()
	if err != nil {
		return nil, err
	}
	total := money.Zero(c.Currency)
	for i, l := range lines {
		cost, err := l.UnitPrice.Times(l.Quantity)
		if err == nil {
			total, err = total.Add(cost)
		}
		if err != nil {
			return nil, money.ErrTooLarge.At("lines", strconv.Itoa(i))
		}
	}
	if c.ExpectedTotal != nil && *c.ExpectedTotal != total {
		return nil, errTotal(total, *c.ExpectedTotal)
	}
	return []Event{Placed{
		Number: c.Number, Lines: lines, Total: total, Currency: c.Currency, Cart: c.Cart, Subject: c.Subject,
		Contact: c.Contact, PaymentToken: c.PaymentToken, Customer: c.Customer, Country: c.Country, Imported: c.Imported,
		PlacedAt: c.PlacedAt.UTC(), PaymentDue: c.PaymentDue.UTC(),
	}}, nil
}

// check returns the lines with their ids, or what is wrong with the input, joined.
func (c Place) check() ([]PlacedLine, error) {
	var errs []error
	if err := text.Line(c.Number, 1, maxNumber); err != nil {
		errs = append(errs, err.At("number"))
	}
	if !c.Currency.Valid() {
		errs = append(errs, errCurrency(c.Currency))
	}
	if c.PlacedAt.IsZero() {
		errs = append(errs, errNoTime)
	}
	if n := len(c.Lines); n < 1 || n > maxLines {
		return nil, errors.Join(append(errs, errLineCount(n))...)
	}
	lines := make([]PlacedLine, len(c.Lines))
	seen := make(map[string]bool, len(c.Lines))
	for i, l := range c.Lines {
		if l.ID == "" {
			l.ID = strconv.Itoa(i + 1)
		}
		if err := checkLine(l, c.Currency); err != nil {
			errs = append(errs, err.At("lines", strconv.Itoa(i)))
		}
		if seen[l.ID] {
			errs = append(errs, errSameID(l.ID).At("lines", strconv.Itoa(i)))
		}
		lines[i], seen[l.ID] = l, true
	}
	return lines, errors.Join(errs...)
}

func checkLine(l PlacedLine, c money.Currency) *rule.Error {
	switch {
	case l.SKU == "" || l.Product == "" || l.UnitPrice.IsNegative():
		return errLine
	case l.UnitPrice.Currency != c:
		return errMixed(l.UnitPrice.Currency, c)
	case l.Quantity < 1 || l.Quantity > MaxQuantity:
		return errQuantity(l.Quantity)
	default:
		return nil
	}
}
