package onlineretail

import (
	"fmt"

	"github.com/millrace/millrace/domain/inventory"
)

// class is what kind of thing a row tells of.
type class uint8

const (
	rejected class = iota
	sale
	giveBack // a return
	correction
)

// reason says why a row is rejected.
type reason uint8

const (
	noReason reason = iota
	noCode
	onlyNote
	negativePrice
	partOfMinorUnit
	badNumber
	badCode
	badCustomer
	badCountry
	zeroQuantity
	hugeQuantity
	notNegative
	noCustomer
	notCovered
	takenNumber
	notOnOrder
	refused
)

// explain returns the reason as summaries and files of rejected rows name it.
func (s *sheet) explain(why reason) string {
	switch why {
	case noCode:
		return "no stock code"
	case onlyNote:
		return "a note without a stock code"
	case negativePrice:
		return "price below zero"
	case partOfMinorUnit:
		return fmt.Sprintf("price with more than %d decimals", s.currency.Decimals())
	case badNumber:
		return "invoice number that cannot name an order"
	case badCode:
		return "stock code that cannot be a SKU"
	case badCustomer:
		return "customer number that is too long or not text"
	case badCountry:
		return "country that is too long or not text"
	case zeroQuantity:
		return "quantity of zero"
	case hugeQuantity:
		return "quantity too large"
	case notNegative:
		return "return of a quantity that is not below zero"
	case noCustomer:
		return "return without a customer"
	case notCovered:
		return "return of more than the customer had bought before"
	case takenNumber:
		return "invoice number of an order that was not imported"
	case notOnOrder:
		return "sale that is not on the order which was imported for its invoice"
	case refused:
		return "refused by the shop's rules"
	default:
		return ""
	}
}

// classify applies the rules that a row is judged by alone. Whether a return is covered is found out by match.
func (s *sheet) classify(r *row) (class, reason) {
	doc := &s.documents[s.invoiceID(r)]
	quantity, price := s.quantity(r), s.price(r)
	switch {
	case s.sku(r) == "" && s.description(r) != "":
		return rejected, onlyNote
	case s.sku(r) == "":
		return rejected, noCode
	case price.exact.Sign() < 0:
		return rejected, negativePrice
	case !price.whole:
		return rejected, partOfMinorUnit
	case !doc.usable:
		return rejected, badNumber
	case !s.skuUsable[s.skuID(r)]:
		return rejected, badCode
	case !s.customerUsable[s.customerID(r)]:
		return rejected, badCustomer
	case !s.countryUsable[r.text[colCountry]]:
		return rejected, badCountry
	case quantity == 0:
		return rejected, zeroQuantity
	case quantity > inventory.MaxQuantity || quantity < -inventory.MaxQuantity:
		return rejected, hugeQuantity
	case doc.credit && s.customer(r) == "":
		return rejected, noCustomer
	case doc.credit && quantity > 0:
		return rejected, notNegative
	case doc.credit:
		return giveBack, noReason
	case quantity < 0, price.exact.Sign() == 0 && s.customer(r) == "":
		return correction, noReason
	default:
		return sale, noReason
	}
}
