package onlineretail

import "encoding/json"

// Result is what an import has come to.
type Result struct {
	Summary Summary
	// Position is the last position that the import has written, or where the log ended if there was nothing to do. All
	// of the import is visible to who reads at it.
	Position int64
}

// Summary counts the rows of a file by what became of them, in this run or an earlier one: it is the same however often
// the file is imported. Rows and amounts of the classes add up to those of the file, exactly. Amounts are quantities
// times prices as the file has them, as decimal numbers in the shop's currency with as many decimals as they need.
type Summary struct {
	Rows        int      `json:"rows"`
	Amount      string   `json:"amount"`
	Sales       Sales    `json:"sales"`
	Returns     Count    `json:"returns"`
	Corrections Count    `json:"corrections"`
	Rejected    Rejected `json:"rejected"`
	// DoneBefore counts the rows that an earlier run had done.
	DoneBefore int `json:"doneBefore"`
}

// Count is a number of rows and their amount.
type Count struct {
	Rows   int    `json:"rows"`
	Amount string `json:"amount"`
}

// Sales are the rows that are lines of orders.
type Sales struct {
	Rows int `json:"rows"`
	// Orders counts the orders.
	Orders int    `json:"orders"`
	Amount string `json:"amount"`
}

// Rejected are the rows that were not imported.
type Rejected struct {
	Rows   int    `json:"rows"`
	Amount string `json:"amount"`
	// Reasons count the rows.
	Reasons map[string]int `json:"reasons"`
}

// String returns the summary as JSON.
func (s Summary) String() string {
	data, err := json.Marshal(s)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (s *sheet) summary() Summary {
	var all sum
	var amounts [correction + 1]sum
	var rows [correction + 1]int
	out := Summary{Rows: len(s.rows), Rejected: Rejected{Reasons: map[string]int{}}}
	orders := make([]bool, len(s.documents))
	for i := range s.rows {
		r := &s.rows[i]
		all.add(s.quantity(r), s.price(r))
		amounts[r.class].add(s.quantity(r), s.price(r))
		rows[r.class]++
		if r.done {
			out.DoneBefore++
		}
		switch id := s.invoiceID(r); {
		case r.class == sale && !orders[id]:
			orders[id] = true
			out.Sales.Orders++
		case r.class == rejected:
			out.Rejected.Reasons[s.explain(r.why)]++
		}
	}
	decimals := s.currency.Decimals()
	text := func(c class) string { return amounts[c].text(decimals) }
	out.Amount = all.text(decimals)
	out.Sales.Rows, out.Sales.Amount = rows[sale], text(sale)
	out.Returns = Count{Rows: rows[giveBack], Amount: text(giveBack)}
	out.Corrections = Count{Rows: rows[correction], Amount: text(correction)}
	out.Rejected.Rows, out.Rejected.Amount = rows[rejected], text(rejected)
	return out
}
