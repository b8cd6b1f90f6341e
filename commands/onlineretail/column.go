package onlineretail

import "strings"

// Columns are the names that a file's header has to hold, in any order. Other columns are left alone.
var Columns = []string{
	"InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country",
}

// Places in Columns.
const (
	colInvoice = iota
	colCode
	colDescription
	colQuantity
	colDate
	colPrice
	colCustomer
	colCountry
	columns
)

// texts keeps each text of a column once, and numbers them from 0.
type texts struct {
	ids map[string]int32
	all []string
	// last spares most look-ups: neighbouring rows have invoice, date, customer and country in common.
	last int32
}

// id returns the number of a text, and whether it is new. It keeps no reference to s.
func (t *texts) id(s string) (id int32, fresh bool) {
	if len(t.all) > 0 && t.all[t.last] == s {
		return t.last, false
	}
	id, known := t.ids[s]
	if !known {
		if t.ids == nil {
			t.ids = make(map[string]int32)
		}
		id = int32(len(t.all))
		s = strings.Clone(s)
		t.ids[s] = id
		t.all = append(t.all, s)
	}
	t.last = id
	return id, !known
}

// find returns the number of a text, -1 if it does not occur.
func (t *texts) find(s string) int32 {
	if id, ok := t.ids[s]; ok {
		return id
	}
	return -1
}
