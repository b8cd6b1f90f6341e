package order

import (
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/personal"
)

// Status says how far an order has come.
type Status string

// The statuses of an order. One that does not exist has none.
const (
	// StatusPending is an order that waits for its payment.
	StatusPending Status = "PENDING"
	// StatusConfirmed is an order whose goods can be sent, or have been in part.
	StatusConfirmed Status = "CONFIRMED"
	// StatusFulfilled is an order of which every unit has been sent.
	StatusFulfilled Status = "FULFILLED"
	// StatusCancelled is an order of which nothing will be sent.
	StatusCancelled Status = "CANCELLED"
	// StatusReturned is an order of which every unit has come back.
	StatusReturned Status = "RETURNED"
)

// State is an order as its events have made it. The zero State is an order that does not exist. Fields without a comment
// are explained at Placed.
type State struct {
	Number       string          `json:"number,omitzero"`
	Status       Status          `json:"status,omitzero"`
	Currency     money.Currency  `json:"currency,omitzero"`
	Lines        []Line          `json:"lines,omitempty"`
	Total        money.Money     `json:"total"`
	Cart         string          `json:"cart,omitzero"`
	Subject      string          `json:"subject,omitzero"`
	Contact      personal.Sealed `json:"contact,omitzero"`
	PaymentToken personal.Sealed `json:"paymentToken,omitzero"`
	Customer     string          `json:"customer,omitzero"`
	Country      string          `json:"country,omitzero"`
	Imported     bool            `json:"imported,omitzero"`
	PlacedAt     time.Time       `json:"placedAt,omitzero"`
	PaymentDue   time.Time       `json:"paymentDue,omitzero"`
	// CancelReason is why the order was cancelled, if it was.
	CancelReason string `json:"cancelReason,omitzero"`
	// Tracking is the carrier's name for the last parcel that has one.
	Tracking string `json:"tracking,omitzero"`
}

// Line is what was bought of one SKU at one price, and what became of it.
type Line struct {
	ID        string      `json:"id"`
	SKU       string      `json:"sku"`
	Product   string      `json:"product"`
	Title     string      `json:"title"`
	Quantity  int         `json:"quantity"`
	UnitPrice money.Money `json:"unitPrice"`
	// Fulfilled counts the units that have been sent, and Returned those of them that have come back.
	Fulfilled int `json:"fulfilled,omitzero"`
	Returned  int `json:"returned,omitzero"`
}

// Total returns what all units of the line cost, or money.ErrTooLarge, which Place lets no line come to.
func (l Line) Total() (money.Money, error) { return l.UnitPrice.Times(l.Quantity) }

// Exists reports whether the order has been placed.
func (s State) Exists() bool { return s.Number != "" }

// Line returns the line with that id, and whether there is one.
func (s State) Line(id string) (Line, bool) {
	if i := s.line(id); i >= 0 {
		return s.Lines[i], true
	}
	return Line{}, false
}

func (s State) line(id string) int {
	return slices.IndexFunc(s.Lines, func(l Line) bool { return l.ID == id })
}

// ReturnedAmount returns what all units that have come back had cost: as much as the buyer should have been refunded.
func (s State) ReturnedAmount() (money.Money, error) {
	sum := money.Zero(s.Currency)
	for _, l := range s.Lines {
		cost, err := l.UnitPrice.Times(l.Returned)
		if err != nil {
			return money.Money{}, err
		}
		if sum, err = sum.Add(cost); err != nil {
			return money.Money{}, err
		}
	}
	return sum, nil
}

// Evolve returns the state after e. It leaves alone whatever s points to.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case Placed:
		return placed(e)
	case Confirmed:
		s.Status = StatusConfirmed
	case Fulfilled:
		s.Lines = moved(s.Lines, e.Lines, func(l *Line, n int) { l.Fulfilled += n })
		if every(s.Lines, func(l Line) int { return l.Fulfilled }) {
			s.Status = StatusFulfilled
		}
		if e.Tracking != "" {
			s.Tracking = e.Tracking
		}
	case Cancelled:
		s.Status, s.CancelReason = StatusCancelled, e.Reason
	case Returned:
		s.Lines = moved(s.Lines, e.Lines, func(l *Line, n int) { l.Returned += n })
		if every(s.Lines, func(l Line) int { return l.Returned }) {
			s.Status = StatusReturned
		}
	default:
		panic(fmt.Sprintf("order: %T is no event of an order", e))
	}
	return s
}

func placed(e Placed) State {
	lines := make([]Line, len(e.Lines))
	for i, l := range e.Lines {
		lines[i] = Line{
			ID: l.ID, SKU: l.SKU, Product: l.Product, Title: l.Title, Quantity: l.Quantity, UnitPrice: l.UnitPrice,
		}
	}
	return State{
		Number: e.Number, Status: StatusPending, Currency: e.Currency, Lines: lines, Total: e.Total, Cart: e.Cart,
		Subject: e.Subject, Contact: e.Contact, PaymentToken: e.PaymentToken, Customer: e.Customer, Country: e.Country,
		Imported: e.Imported, PlacedAt: e.PlacedAt, PaymentDue: e.PaymentDue,
	}
}

// moved returns a copy of lines in which each unit of steps has been taken one step on. Events name lines in the order's
// own order nearly always, so that the search begins where the last one ended.
func moved(lines []Line, steps []LineQuantity, step func(*Line, int)) []Line {
	lines = slices.Clone(lines)
	next := 0
	for _, q := range steps {
		for range lines {
			l := &lines[next%len(lines)]
			next++
			if l.ID == q.ID {
				step(l, q.Quantity)
				break
			}
		}
	}
	return lines
}

// every reports whether count says of each line that all its units are meant.
func every(lines []Line, count func(Line) int) bool {
	return !slices.ContainsFunc(lines, func(l Line) bool { return count(l) != l.Quantity })
}
