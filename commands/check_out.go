package commands

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/personal"
	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/internal/es"
)

// CheckOut makes a cart an order.
type CheckOut struct {
	CartID          string
	Email           string
	ShippingAddress Address
	// PaymentToken is what the payment provider knows the buyer's means of payment by.
	PaymentToken string
	// ExpectedTotal is a decimal number in the shop's currency: what the buyer thinks to pay. It may be nil.
	ExpectedTotal *string
}

// OrderResult is an order as a command left it.
type OrderResult struct {
	State order.State
	// AccessToken lets a guest see and cancel the order; set by CheckOut only.
	AccessToken string
	Position    int64
}

const (
	maxPaymentToken = 200
	// numberDraws is how many order numbers are drawn before one that is free is given up on. Of 2^40 numbers a shop
	// would have to have used most for this to happen.
	numberDraws = 10
)

var (
	errNumberTaken = errors.New("commands: the order number is taken")
	errUnsealed    = errors.New("commands: nothing is wrong with the checkout, and it is not sealed yet")
)

// CheckOut answers with the order and its access token. The order, the end of the cart and the reservation of every unit
// in it are one append. What the buyer pays is what the products cost at that moment.
//
// Refusals: rule.Invalid at the input that is wrong, all of them together; at input, cartId: rule.NotFound, CartClosed,
// CartEmpty, OutOfStock (one for each SKU that is short), NotFound for each SKU no longer for sale; rule.TotalChanged at
// input, expectedTotal.
func (a *App) CheckOut(ctx context.Context, in CheckOut) (OrderResult, error) {
	c, err := a.checkOut(in)
	if err != nil {
		return OrderResult{}, err
	}
	c.subject, c.number = a.SubjectOf(c.contact.Email), newOrderNumber()
	command := es.Command{Name: "checkout", Streams: []string{c.cart.Name()}, Decide: c.decide}
	// What would be refused is not sealed, so that nobody gets a key who buys nothing. It is executed all the same: only that makes sure of the refusal,
	// and it may be a repetition of what was not refused.
	switch err := a.dryRun(ctx, command, in); {
	case errors.Is(err, errUnsealed):
		if err := a.sealFor(ctx, c); err != nil {
			return OrderResult{}, err
		}
	case errors.Is(err, es.ErrUnavailable):
		return OrderResult{}, err
	}
	for range numberDraws {
		position, err := a.execute(ctx, command, in, c.placed)
		switch {
		case errors.Is(err, errUnsealed): // what it would have been refused for is no longer so
			if err := a.sealFor(ctx, c); err != nil {
				return OrderResult{}, err
			}
			continue
		case errors.Is(err, errNumberTaken):
			c.number = newOrderNumber()
			continue
		case err != nil:
			return OrderResult{}, err
		}
		placed := c.placed.state
		return OrderResult{State: placed, AccessToken: a.AccessToken(placed.Number), Position: position}, nil
	}
	return OrderResult{}, fmt.Errorf("commands: no free order number in %d draws", numberDraws)
}

// checkingOut is a checkout of checked input.
type checkingOut struct {
	currency      money.Currency
	deadline      time.Duration
	cart          es.Stream[cart.State]
	contact       Contact
	token         string
	expectedTotal *money.Money

	subject                    string
	country                    string
	sealed                     bool
	sealedContact, sealedToken personal.Sealed

	number string
	placed *shown[order.State]
}

// checkOut checks everything that no state could make acceptable, and reports all of it together.
func (a *App) checkOut(in CheckOut) (*checkingOut, error) {
	c := &checkingOut{currency: a.currency, deadline: a.paymentDeadline, token: in.PaymentToken, placed: newShown(Orders)}
	var errs []error
	var err error
	if c.cart, err = cartStream(in.CartID); err != nil {
		errs = append(errs, err)
	}
	email, broken := checkEmail(in.Email)
	if broken != nil {
		errs = append(errs, broken.At("input", "email"))
	}
	address, err := in.ShippingAddress.check()
	if err != nil {
		errs = append(errs, at(err, "input", "shippingAddress"))
	}
	c.contact = Contact{Email: email, Address: address}
	c.country, _ = CountryName(address.Country)
	if _, broken := line(in.PaymentToken, 1, maxPaymentToken); broken != nil {
		errs = append(errs, broken.At("input", "payment", "token"))
	}
	if in.ExpectedTotal != nil {
		total, err := money.Parse(*in.ExpectedTotal, a.currency)
		if err != nil {
			errs = append(errs, at(err, "input", "expectedTotal"))
		}
		c.expectedTotal = &total
	}
	return c, errors.Join(errs...)
}

// sealFor seals what is personal in a checkout under the buyer's key, which is made if there is none.
func (a *App) sealFor(ctx context.Context, c *checkingOut) (err error) {
	if c.sealedContact, err = a.sealContact(ctx, c.subject, c.contact); err != nil {
		return fmt.Errorf("commands: sealing a contact: %w", err)
	}
	if c.sealedToken, err = a.seal(ctx, c.subject, []byte(c.token)); err != nil {
		return fmt.Errorf("commands: sealing a payment token: %w", err)
	}
	c.sealed = true
	return nil
}

// decide refuses what is not sealed yet with errUnsealed, where nothing else is wrong with it.
func (c *checkingOut) decide(d *es.Decision) error {
	bought, err := es.State(d, c.cart)
	if err != nil {
		return err
	}
	closed, err := cart.CheckOut{Order: c.number}.Decide(bought)
	if err != nil {
		return at(err, "input")
	}
	lines, err := c.reserve(d, bought)
	if err != nil {
		return err
	}
	stream := Orders.Stream(c.number)
	var before order.State
	if c.sealed {
		if before, err = es.Presumed(d, stream); err != nil {
			return err
		}
	}
	if before.Exists() {
		return errNumberTaken
	}
	now := d.OccurredAt().Truncate(time.Microsecond) // as exact as the log keeps the time of the event itself
	placed, err := order.Place{
		Number: c.number, Lines: lines, Currency: c.currency, Cart: es.IDOf(c.cart.Name()), Subject: c.subject,
		Contact: c.sealedContact, PaymentToken: c.sealedToken, Country: c.country,
		PlacedAt: now, PaymentDue: now.Add(c.deadline), ExpectedTotal: c.expectedTotal,
	}.Decide(before)
	if err != nil {
		return at(err, "input")
	}
	if !c.sealed {
		return errUnsealed
	}
	c.placed.set(stream, es.Append(d, stream, placed...))
	es.Append(d, c.cart, closed...)
	return nil
}

// reserve keeps the units of every line for the order and returns the lines at the prices of this moment.
func (c *checkingOut) reserve(d *es.Decision, bought cart.State) ([]order.PlacedLine, error) {
	need := make([]string, 0, 2*len(bought.Lines))
	for _, l := range bought.Lines {
		need = append(need, Stocks.Stream(l.SKU).Name(), Products.Stream(l.Product).Name())
	}
	if err := d.Need(need...); err != nil {
		return nil, err
	}
	lines := make([]order.PlacedLine, len(bought.Lines))
	var errs []error
	for i, l := range bought.Lines {
		product, err := es.State(d, Products.Stream(l.Product))
		if err != nil {
			return nil, err
		}
		variant, ok := product.Variant(l.SKU)
		if !ok || product.Status != catalog.StatusActive {
			errs = append(errs, rule.New(rule.NotFound, "%s is no longer for sale", l.SKU).At("input", "cartId"))
			continue
		}
		stock := Stocks.Stream(l.SKU)
		there, err := es.State(d, stock)
		if err != nil {
			return nil, err
		}
		reserved, err := inventory.Reserve{Order: c.number, Quantity: l.Quantity}.Decide(there)
		if err != nil {
			errs = append(errs, replaced(err, "input", "cartId"))
			continue
		}
		es.Append(d, stock, reserved...)
		lines[i] = order.PlacedLine{
			SKU: l.SKU, Product: l.Product, Title: product.LineTitle(variant), Quantity: l.Quantity, UnitPrice: variant.Price,
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return lines, nil
}
