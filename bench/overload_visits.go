package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// visitKind is a kind of request, one for each priority that the API knows.
type visitKind int

const (
	lookAtPages visitKind = iota
	fillCart
	checkOut
	readReport
	visitKinds
)

var visitNames = [visitKinds]string{"browse", "cart", "checkout", "report"}

// offered is the mixture that visitors ask for, in parts of 200: few who look at a shop buy, and those who do look at many pages.
var offered = [visitKinds]int{lookAtPages: 187, fillCart: 10, checkOut: 2, readReport: 1}

// mixture returns kinds in the proportions of their shares, each spread evenly over the whole.
func mixture(shares [visitKinds]int) []visitKind {
	whole := 0
	for _, share := range shares {
		whole += share
	}
	kinds := make([]visitKind, 0, mixtureLength)
	var due [visitKinds]int
	for range mixtureLength {
		next := lookAtPages
		for kind := range due {
			due[kind] += shares[kind]
			if due[kind] > due[next] {
				next = visitKind(kind)
			}
		}
		due[next] -= whole
		kinds = append(kinds, next)
	}
	return kinds
}

const mixtureLength = 1000

// visitors send the requests of a shop's visitors, each in one piece that is ready before.
type visitors struct {
	host, staffToken, run string
	pages, carts          [][]byte
	report                []byte
	// filled are ids of carts that nobody has checked out yet.
	filled chan string
	// mixture says what kinds of requests follow each other.
	mixture []visitKind
}

const (
	visitSKUs  = 20
	visitUnits = 1_000_000 // of each SKU: enough for all who come
	mostFilled = 1 << 16
)

const reportQuery = `query($from: DateTime!, $to: DateTime!) { salesReport(from: $from, to: $to, groupBy: DAY) { key orders } }`

// newVisitors makes something to be sold, and the requests.
func newVisitors(ctx context.Context, a *apiProcess) (*visitors, error) {
	p, err := a.offer(ctx, visitSKUs*visitUnits, visitSKUs)
	if err != nil {
		return nil, err
	}
	address, err := url.Parse(a.graphql)
	if err != nil {
		return nil, fmt.Errorf("bench: the address of the API: %w", err)
	}
	v := &visitors{host: address.Host, staffToken: a.staffToken, run: rand.Text(), mixture: mixture(offered), filled: make(chan string, mostFilled)}
	// What brings a position is read, and does not come from the cache: an answer from there takes next to nothing, and is not refused.
	const read = "Millrace-Position: 1\r\n"
	v.pages = [][]byte{
		v.request(read, browseQuery, nil), v.request(read, productQuery, map[string]any{"slug": p.slug}),
	}
	for _, sku := range p.skus {
		v.carts = append(v.carts, v.request("", cartMutation, map[string]any{
			"input": map[string]any{"lines": []any{map[string]any{"sku": sku, "quantity": 1}}},
		}))
	}
	v.report = v.request("Authorization: Bearer "+a.staffToken+"\r\n", reportQuery, map[string]any{"from": "2020-01-01T00:00:00Z", "to": "2030-01-01T00:00:00Z"})
	return v, nil
}

// request writes a request in one piece.
func (v *visitors) request(header, query string, variables map[string]any) []byte {
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		panic(err) // it is all text and numbers
	}
	head := "POST /graphql HTTP/1.1\r\nHost: " + v.host + "\r\nContent-Type: application/json\r\nAccept: application/json\r\n" + header +
		"Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	return append([]byte(head), body...)
}

// attend sends the n-th request. Where there is no cart to check out, one is filled instead.
func (v *visitors) attend(c *connection, n int) (kind visitKind, result verdict, err error) {
	kind = v.mixture[n%len(v.mixture)]
	cart := ""
	if kind == checkOut {
		select {
		case cart = <-v.filled:
		default:
			kind = fillCart
		}
	}
	var request []byte
	switch kind {
	case lookAtPages:
		request = v.pages[n%len(v.pages)]
	case fillCart:
		request = v.carts[n%len(v.carts)]
	case readReport:
		request = v.report
	default:
		request = v.checkout(cart)
	}
	r, err := c.exchange(request)
	if err != nil {
		return kind, spoiled, err
	}
	result = judge(r)
	switch {
	case result == spoiled:
		return kind, result, fmt.Errorf("%s: HTTP %d: %.300s", visitNames[kind], r.status, r.body)
	case kind == checkOut && result == turned:
		v.keep(cart)
	case kind == fillCart && result == accepted:
		id, ok := between(r.body, `"cart":{"id":"`, `"`)
		if !ok {
			return kind, spoiled, errors.New("a cart has no id")
		}
		v.keep(id)
	}
	return kind, result, nil
}

// keep puts a cart aside for who checks out.
func (v *visitors) keep(cart string) {
	select {
	case v.filled <- cart:
	default: // there are more than enough
	}
}

func (v *visitors) checkout(cart string) []byte {
	return v.request("", checkoutMutation, map[string]any{"input": map[string]any{
		"cartId": cart, "email": "visitor@example.com",
		"shippingAddress": map[string]any{"name": "A visitor", "line1": "1 Mill Lane", "city": "London", "postcode": "N1 1AA", "country": "GB"},
		"payment":         map[string]any{"token": "ok"}, "idempotencyKey": v.run + cart,
	}})
}

// judge says what an answer means.
func judge(r reply) verdict {
	switch {
	case r.status == http.StatusOK && bytes.HasPrefix(r.body, []byte(`{"data":`)) && !bytes.Contains(r.body, []byte(`"userErrors":[{`)):
		return accepted
	case r.status == http.StatusServiceUnavailable && r.retryAfter && bytes.Contains(r.body, []byte(`"code":"OVERLOADED"`)):
		return turned
	default:
		return spoiled
	}
}

func between(text []byte, before, after string) (string, bool) {
	_, rest, ok := bytes.Cut(text, []byte(before))
	found, _, closed := bytes.Cut(rest, []byte(after))
	return string(found), ok && closed
}
