package onlineretail

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/money"
)

// row is one invoice line as it stands in the file, and what becomes of it.
type row struct {
	line  int32
	place int32          // on its invoice, from 1
	text  [columns]int32 // by column, into sheet.written
	class class
	why   reason
	done  bool // by an earlier run
}

// sheet is a whole file. What the rows' texts mean is worked out once for each text.
type sheet struct {
	name     string
	currency money.Currency
	location *time.Location

	rows    []row
	written [columns]texts

	// By number of the text in its column.
	invoiceOf   []int32 // into invoices
	skuOf       []int32 // into skus
	quantities  []int64
	dates       []time.Time
	prices      []price
	customerOf  []int32 // into customers
	countries   []string
	describedAs []int32 // into descriptions

	invoices, skus, customers, descriptions texts
	documents                               []document // by invoice
	skuUsable, customerUsable               []bool
	countryUsable                           []bool
}

// document is what the rows of one invoice number have in common.
type document struct {
	credit bool // the number begins with C
	usable bool
	rows   []int32 // in the file's order
}

const (
	maxCustomer = 64
	maxCountry  = 100
)

func (s *sheet) invoiceID(r *row) int32  { return s.invoiceOf[r.text[colInvoice]] }
func (s *sheet) number(r *row) string    { return s.invoices.all[s.invoiceID(r)] }
func (s *sheet) skuID(r *row) int32      { return s.skuOf[r.text[colCode]] }
func (s *sheet) sku(r *row) string       { return s.skus.all[s.skuID(r)] }
func (s *sheet) quantity(r *row) int64   { return s.quantities[r.text[colQuantity]] }
func (s *sheet) date(r *row) time.Time   { return s.dates[r.text[colDate]] }
func (s *sheet) price(r *row) price      { return s.prices[r.text[colPrice]] }
func (s *sheet) customerID(r *row) int32 { return s.customerOf[r.text[colCustomer]] }
func (s *sheet) customer(r *row) string  { return s.customers.all[s.customerID(r)] }
func (s *sheet) country(r *row) string   { return s.countries[r.text[colCountry]] }
func (s *sheet) description(r *row) string {
	return s.descriptions.all[s.describedAs[r.text[colDescription]]]
}
func (s *sheet) unitPrice(r *row) money.Money {
	return money.Money{Minor: s.price(r).minor, Currency: s.currency}
}

// add takes a row over. Its error is that of one field.
func (s *sheet) add(line int, fields *[columns]string) error {
	r := row{line: int32(line)}
	for c := range fields {
		id, fresh := s.written[c].id(fields[c])
		r.text[c] = id
		if fresh {
			if problem := s.understand(c, s.written[c].all[id]); problem != "" {
				return &fieldError{column: c, problem: problem}
			}
		}
	}
	doc := &s.documents[s.invoiceID(&r)]
	doc.rows = append(doc.rows, int32(len(s.rows)))
	r.place = int32(len(doc.rows))
	s.rows = append(s.rows, r)
	return nil
}

// fieldError is what is wrong with one field of a row.
type fieldError struct {
	column  int
	problem string
}

func (e *fieldError) Error() string { return Columns[e.column] + ": " + e.problem }

// understand works out what a text of a column means, or says why it means nothing.
func (s *sheet) understand(column int, written string) (problem string) {
	trimmed := strings.TrimSpace(written)
	switch column {
	case colInvoice:
		id, fresh := s.invoices.id(trimmed)
		if fresh {
			s.documents = append(s.documents, document{credit: strings.HasPrefix(trimmed, "C"), usable: commands.IsInvoiceNumber(trimmed)})
		}
		s.invoiceOf = append(s.invoiceOf, id)
	case colCode:
		id, fresh := s.skus.id(catalog.NormalSKU(written))
		if fresh {
			s.skuUsable = append(s.skuUsable, catalog.ValidSKU(s.skus.all[id]))
		}
		s.skuOf = append(s.skuOf, id)
	case colDescription:
		id, _ := s.descriptions.id(cleaned(trimmed))
		s.describedAs = append(s.describedAs, id)
	case colQuantity:
		n, err := strconv.ParseInt(trimmed, 10, 64)
		if err != nil {
			return fmt.Sprintf("the quantity must be a whole number, not %s", quoted(written))
		}
		s.quantities = append(s.quantities, n)
	case colDate:
		at, ok := parseDate(trimmed, s.location)
		if !ok {
			return fmt.Sprintf("the date must be written as 2011-12-05T08:38:00, not %s", quoted(written))
		}
		s.dates = append(s.dates, at)
	case colPrice:
		p, ok := parsePrice(trimmed, s.currency.Decimals())
		if !ok {
			return fmt.Sprintf("the price must be a decimal number of at most %d digits, not %s", maxDigits, quoted(written))
		}
		s.prices = append(s.prices, p)
	case colCustomer:
		id, fresh := s.customers.id(trimmed)
		if fresh {
			s.customerUsable = append(s.customerUsable, usableText(trimmed, maxCustomer))
		}
		s.customerOf = append(s.customerOf, id)
	case colCountry:
		s.countries = append(s.countries, strings.Clone(trimmed))
		s.countryUsable = append(s.countryUsable, usableText(trimmed, maxCountry))
	}
	return ""
}

var dateLayouts = []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04"}

func parseDate(s string, location *time.Location) (time.Time, bool) {
	for _, layout := range dateLayouts {
		if at, err := time.ParseInLocation(layout, s, location); err == nil && at.Year() > 0 {
			return at.UTC(), true
		}
	}
	return time.Time{}, false
}

func usableText(s string, most int) bool {
	return utf8.RuneCountInString(s) <= most && !strings.ContainsFunc(s, unicode.IsControl)
}

// cleaned returns a description that can be the title of a product: on one line, and of at most 200 characters.
func cleaned(s string) string {
	const most = 200
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most])
	}
	return strings.TrimSpace(s)
}

// quoted keeps what is wrong short enough to be shown.
func quoted(s string) string {
	const most = 40
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "..."
	}
	return strconv.Quote(s)
}
