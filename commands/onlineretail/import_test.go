package onlineretail

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/internal/es"
)

func TestImport(t *testing.T) {
	t.Parallel()
	k := commandtest.New(t)
	got := imported(t, k, lines(
		"1 a MUG 2 2011-07-05T10:00:00 1.25 7 EIRE",
		"2 B POT 1 2011-07-05T10:01:00 4.00 _ RSA",
		"2 A lost -1 2011-07-05T10:01:00 0.00 _ RSA",
		"2 A _ 1 2011-07-05T10:02:00 1.20 _ RSA",
		"C3 A MUG -1 2011-07-05T10:03:00 1.20 7 EIRE",
		"C3 A MUG -9 2011-07-05T10:03:00 1.20 7 EIRE",
		"C3 A MUG -1 2011-07-05T10:04:00 1.20 7 EIRE",
	))
	const want = `{"rows":7,"amount":"-5.50","sales":{"rows":3,"orders":2,"amount":"7.70"},"returns":{"rows":2,"amount":"-2.40"},` +
		`"corrections":{"rows":1,"amount":"0.00"},"rejected":{"rows":1,"amount":"-10.80","reasons":` +
		`{"return of more than the customer had bought before":1}},"doneBefore":0}`
	if got.Summary.String() != want {
		t.Errorf("got  %s\nwant %s", got.Summary, want)
	}
	if got.Position != int64(len(k.Log())) {
		t.Errorf("got position %d, want %d", got.Position, len(k.Log()))
	}
	const gbp = `,"currency":"GBP"}`
	wantSame(t, told(k.Log()), []string{
		`2011-07-05T09:00:00 slug-mug-a slug.claimed {"product":"product of A"}`,
		`2011-07-05T09:00:00 stock-A stock.opened {"sku":"A","product":"product of A"}`,
		`2011-07-05T09:00:00 product-product of A product.created {"id":"product of A","slug":"mug-a","title":"MUG","status":"ACTIVE",` +
			`"variants":[{"sku":"A","price":{"minor":120` + gbp + `}]}`,
		`2011-07-05T09:00:00 stock-A stock.received {"quantity":4,"reference":"imported"}`,
		`2011-07-05T09:00:00 slug-pot-b slug.claimed {"product":"product of B"}`,
		`2011-07-05T09:00:00 stock-B stock.opened {"sku":"B","product":"product of B"}`,
		`2011-07-05T09:00:00 product-product of B product.created {"id":"product of B","slug":"pot-b","title":"POT","status":"ACTIVE",` +
			`"variants":[{"sku":"B","price":{"minor":400` + gbp + `}]}`,
		`2011-07-05T09:00:00 stock-B stock.received {"quantity":1,"reference":"imported"}`,

		`2011-07-05T09:00:00 stock-A stock.sold {"order":"1","quantity":2}`,
		`2011-07-05T09:00:00 order-1 order.placed {"number":"1","lines":[{"id":"1","sku":"A","product":"product of A","title":"MUG",` +
			`"quantity":2,"unitPrice":{"minor":125` + gbp + `}],"total":{"minor":250` + gbp + `,"currency":"GBP","customer":"7",` +
			`"country":"EIRE","imported":true,"placedAt":"2011-07-05T09:00:00Z"}`,
		`2011-07-05T09:00:00 payment-1 payment.authorised {"order":"1","amount":{"minor":250` + gbp + `,"reference":"imported"}`,
		`2011-07-05T09:00:00 payment-1 payment.captured {"amount":{"minor":250` + gbp + `}`,
		`2011-07-05T09:00:00 order-1 order.confirmed {}`,
		`2011-07-05T09:00:00 order-1 order.fulfilled {"lines":[{"id":"1","quantity":2}]}`,

		`2011-07-05T09:01:00 stock-B stock.sold {"order":"2","quantity":1}`,
		`2011-07-05T09:01:00 stock-A stock.sold {"order":"2","quantity":1}`,
		`2011-07-05T09:01:00 order-2 order.placed {"number":"2","lines":[{"id":"1","sku":"B","product":"product of B","title":"POT",` +
			`"quantity":1,"unitPrice":{"minor":400` + gbp + `},{"id":"3","sku":"A","product":"product of A","title":"MUG",` +
			`"quantity":1,"unitPrice":{"minor":120` + gbp + `}],"total":{"minor":520` + gbp + `,"currency":"GBP",` +
			`"country":"RSA","imported":true,"placedAt":"2011-07-05T09:01:00Z"}`,
		`2011-07-05T09:01:00 payment-2 payment.authorised {"order":"2","amount":{"minor":520` + gbp + `,"reference":"imported"}`,
		`2011-07-05T09:01:00 payment-2 payment.captured {"amount":{"minor":520` + gbp + `}`,
		`2011-07-05T09:01:00 order-2 order.confirmed {}`,
		`2011-07-05T09:01:00 order-2 order.fulfilled {"lines":[{"id":"1","quantity":1},{"id":"3","quantity":1}]}`,

		`2011-07-05T09:01:00 stock-A stock.adjusted {"delta":-1,"reason":"lost"}`,
		`2011-07-05T09:01:00 invoice-2 invoice.lines_imported {"lines":[2]}`,

		`2011-07-05T09:04:00 stock-A stock.returned {"order":"1","quantity":2}`,
		`2011-07-05T09:04:00 order-1 order.returned {"lines":[{"id":"1","quantity":1},{"id":"1","quantity":1}],"amount":{"minor":250` + gbp + `}`,
		`2011-07-05T09:04:00 payment-1 payment.refunded {"amount":{"minor":250` + gbp + `}`,
		`2011-07-05T09:04:00 invoice-C3 invoice.lines_imported {"lines":[1,3]}`,
	})
}

// A later file knows purchases and sales that an earlier one did not, and the other way round.
func TestFilesBuildOnEachOther(t *testing.T) {
	t.Parallel()
	k := commandtest.New(t)
	may := []string{"1 A MUG 5 2011-05-05T10:00:00 1.00 7 EIRE", "2 A MUG 1 2011-05-06T10:00:00 1.00 7 EIRE"}
	july := []string{"5 A MUG 1 2011-07-05T10:00:00 1.00 7 EIRE", "C6 A MUG -3 2011-07-06T10:00:00 1.00 7 EIRE", "C6 A MUG -1 2011-07-06T10:00:00 1.00 7 EIRE"}
	july = append(july, "7 A MUG 9 2011-07-09T10:00:00 1.00 7 EIRE")

	// Only what was bought in July itself is known.
	if got := imported(t, k, lines(july...)).Summary; got.Rejected.Rows != 1 || got.Returns.Rows != 1 || got.DoneBefore != 0 {
		t.Errorf("July: %s", got)
	}
	if got := imported(t, k, lines(may...)).Summary; got.Sales.Rows != 2 || got.DoneBefore != 0 {
		t.Errorf("May: %s", got)
	}
	before := len(k.Log())
	// The line that July alone did not cover is now covered by May: not by what was bought after it.
	if got := imported(t, k, lines(july...)).Summary; got.Rejected.Rows != 0 || got.Returns.Rows != 2 || got.DoneBefore != 3 {
		t.Errorf("July again: %s", got)
	}
	fresh := told(k.Log()[before:])
	for _, want := range []string{
		`order-1 order.returned {"lines":[{"id":"1","quantity":2}],"amount":{"minor":200,"currency":"GBP"}}`,
		`order-2 order.returned {"lines":[{"id":"1","quantity":1}],"amount":{"minor":100,"currency":"GBP"}}`,
		`invoice-C6 invoice.lines_imported {"lines":[1]}`,
	} {
		if !slices.ContainsFunc(fresh, func(s string) bool { return strings.HasSuffix(s, want) }) {
			t.Errorf("there is no %s in\n%s", want, strings.Join(fresh, "\n"))
		}
	}
	before = len(k.Log())
	if got := imported(t, k, lines(append(may, july...)...)).Summary; got.DoneBefore != 6 || got.Rows != 6 {
		t.Errorf("both: %s", got)
	}
	if n := len(k.Log()) - before; n != 0 {
		t.Errorf("%d events more", n)
	}
}

// Units that staff have taken back through the API cannot come back a second time.
func TestReturnsThatWereNotImportedCount(t *testing.T) {
	t.Parallel()
	k := commandtest.New(t)
	imported(t, k, lines("1 A MUG 5 2011-05-05T10:00:00 1.00 7 EIRE"))
	k.Given("order-1", order.Returned{Lines: []order.LineQuantity{{ID: "1", Quantity: 3}}})
	got := verdictsOf(t, k, lines("C2 A MUG -3 2011-05-06T10:00:00 1.00 7 EIRE", "C2 A MUG -2 2011-05-06T10:00:00 1.00 7 EIRE"))
	want := []string{"return of more than the customer had bought before", "return: 2 of 1/1"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An order that was imported stays as it was, and nobody can return what is not on it.
func TestAnotherVersionOfAnInvoice(t *testing.T) {
	t.Parallel()
	k := commandtest.New(t)
	imported(t, k, lines("1 A MUG 5 2011-05-05T10:00:00 1.00 7 EIRE", "1 B POT 5 2011-05-05T10:00:00 1.00 7 EIRE"))
	got := verdictsOf(t, k, lines(
		"1 A MUG 5 2011-05-05T10:00:00 1.00 7 EIRE", "1 B POT 6 2011-05-05T10:00:00 1.00 7 EIRE", "1 C PAN 5 2011-05-05T10:00:00 1.00 7 EIRE",
		"C2 A MUG -5 2011-05-06T10:00:00 1.00 7 EIRE", "C2 B POT -5 2011-05-06T10:00:00 1.00 7 EIRE", "C2 C PAN -5 2011-05-06T10:00:00 1.00 7 EIRE",
	))
	const missing = "sale that is not on the order which was imported for its invoice"
	want := []string{"sale", missing, missing, "return: 5 of 1/1", "return: 5 of 1/2", "return of more than the customer had bought before"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func verdictsOf(t *testing.T, k *commandtest.Kit, src Source) []string {
	t.Helper()
	p, err := makePlan(t.Context(), k, read(t, src), func(int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	return verdicts(p)
}

func TestNumberOfAnOrderPlacedOnline(t *testing.T) {
	t.Parallel()
	k := commandtest.New(t)
	k.Given("order-7H3K9QRT", order.Placed{Number: "7H3K9QRT", Currency: "GBP", Lines: []order.PlacedLine{{ID: "1", SKU: "A", Quantity: 1}}})
	got := imported(t, k, lines("7H3K9QRT A MUG 5 2011-05-05T10:00:00 1.00 7 EIRE")).Summary
	if got.Rejected.Reasons["invoice number of an order that was not imported"] != 1 {
		t.Errorf("got %s", got)
	}
}

// A SKU that the shop had before keeps its product; only what is missing is received.
func TestKnownProductsStayAsTheyAre(t *testing.T) {
	t.Parallel()
	k := commandtest.New(t)
	k.Given("stock-A", inventory.Opened{SKU: "A", Product: "p"}, inventory.Received{Quantity: 3})
	imported(t, k, lines("1 A MUG 5 2011-05-05T10:00:00 1.00 7 EIRE"))
	k.Given("stock-A", inventory.Received{Quantity: 10})
	imported(t, k, lines("2 A MUG 8 2011-05-05T10:00:00 1.00 7 EIRE"))
	var got []string
	for _, e := range k.Log() {
		if strings.HasPrefix(e.Stream, "stock-") || strings.HasPrefix(e.Stream, "product-") {
			got = append(got, e.Type+" "+string(e.Data))
		}
	}
	want := []string{
		`stock.opened {"sku":"A","product":"p"}`, `stock.received {"quantity":3}`,
		`stock.received {"quantity":2,"reference":"imported"}`, `stock.sold {"order":"1","quantity":5}`,
		`stock.received {"quantity":10}`, `stock.sold {"order":"2","quantity":8}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// thief takes what has been opened before the rows come.
type thief struct {
	*commandtest.Kit
	stolen bool
}

func (f *thief) ExecuteAll(ctx context.Context, cs []es.Command) ([]es.Outcome, []error) {
	if cs[0].Name != "import.product" && !f.stolen {
		f.stolen = true
		f.Given("stock-A", inventory.Adjusted{Delta: -4})
	}
	return f.Kit.ExecuteAll(ctx, cs)
}

func TestStockThatSomebodyElseBoughtIsReceivedAgain(t *testing.T) {
	t.Parallel()
	k := commandtest.New(t)
	o := options(t, k, lines(
		"1 A MUG 5 2011-05-05T10:00:00 1.00 7 EIRE", "2 A MUG 1 2011-05-05T10:01:00 1.00 7 EIRE",
		"C3 A MUG -4 2011-05-05T10:02:00 1.00 7 EIRE", "4 A lost -4 2011-05-05T10:03:00 0 _ EIRE",
	))
	o.Executor = &thief{Kit: k}
	got, err := Import(t.Context(), o)
	if err != nil || got.Summary.Rejected.Rows != 0 {
		t.Errorf("got %s, %v", got.Summary, err)
	}
	if again := imported(t, k, o.Source).Summary; again.DoneBefore != 4 {
		t.Errorf("again: got %s", again)
	}
}

// refusing has orders of an invoice refused.
type refusing struct {
	*commands.App
	number string
}

func (r refusing) ImportOrder(in commands.ImportOrder) es.Command {
	if in.Number == r.number {
		in.Lines = nil
	}
	return r.App.ImportOrder(in)
}

func TestRejectedRowsAreWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rejected.csv")
	k := commandtest.New(t)
	src := text(header + "1,A,\"A \"\"MUG\"\" \",2,2011-05-05T10:00:00,1.0,7,EIRE\n" +
		"1,A,,1,2011-05-05T10:00:00,0.001,7,EIRE\n" +
		"\n" +
		" C2 ,a,\"two, or more\",-3,2011-05-06 10:00,1.00,7,EIRE\n" +
		"3,A,MUG,1,2011-05-05T10:00:00,1.00,7,EIRE\n")
	o := options(t, k, src)
	o.Commands, o.RejectedPath = refusing{k.App, "3"}, path
	r, err := Import(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	const reasons = `{"rows":3,"amount":"-1.999","reasons":{"price with more than 2 decimals":1,"refused by the shop's rules":1,` +
		`"return of more than the customer had bought before":1}}`
	if !strings.Contains(r.Summary.String(), reasons) {
		t.Errorf("got %s", r.Summary)
	}
	const want = "Line,Reason,InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n" +
		"3,price with more than 2 decimals,1,A,,1,2011-05-05T10:00:00,0.001,7,EIRE\n" +
		"5,return of more than the customer had bought before,\" C2 \",a,\"two, or more\",-3,2011-05-06 10:00,1.00,7,EIRE\n" +
		"6,\"refused by the shop's rules: INVALID: lines: an order has 1 to 10000 lines, not 0\",3,A,MUG,1,2011-05-05T10:00:00,1.00,7,EIRE\n"
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}

	// An import without rejected rows leaves no older file behind.
	o = options(t, k, text(header))
	o.RejectedPath = path
	if _, err := Import(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file of rejected rows is still there: %v", err)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	k := commandtest.New(t)
	o := options(t, k, Sample())
	var seen []Progress
	o.Progress = func(p Progress) { seen = append(seen, p) }
	if _, err := Import(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for i, p := range seen[1:] {
		if before := seen[i]; p.Phase == before.Phase && (p.Done <= before.Done || p.Rate <= 0) {
			t.Errorf("%+v comes after %+v", p, before)
		}
	}
	last := seen[len(seen)-1]
	if last.Phase != Importing || last.Done != 5331 || last.Total != 5331 || last.Remaining != 0 {
		t.Errorf("the last progress is %+v", last)
	}
}

// restarting is a log that is away at first, and then for a while in the middle of each chunk.
type restarting struct {
	*commandtest.Kit
	calls int
}

func (r *restarting) ExecuteAll(ctx context.Context, cs []es.Command) ([]es.Outcome, []error) {
	r.calls++
	if r.calls%3 == 0 {
		return r.Kit.ExecuteAll(ctx, cs)
	}
	return (&failing{Executor: r.Kit, left: (r.calls - 1) % 3 * len(cs) / 2}).ExecuteAll(ctx, cs)
}

func TestLogThatComesBack(t *testing.T) {
	t.Parallel()
	src := lines("1 A MUG 5 2011-05-05T10:00:00 1.00 7 EIRE", "2 B MUG 1 2011-05-05T10:01:00 1.00 7 EIRE",
		"C3 A MUG -4 2011-05-05T10:02:00 1.00 7 EIRE", "4 A lost -1 2011-05-05T10:03:00 0 _ EIRE")
	whole, k := commandtest.New(t), commandtest.New(t)
	want := imported(t, whole, src)
	o := options(t, k, src)
	o.Executor = &restarting{Kit: k}
	got, err := Import(t.Context(), o)
	if err != nil || got.Summary.String() != want.Summary.String() || got.Position != want.Position {
		t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
	}
	wantSame(t, told(k.Log()), told(whole.Log()))
}

func TestCancelledImportStopsBetweenChunks(t *testing.T) {
	t.Parallel()
	k := commandtest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	o := options(t, k, Sample())
	o.ChunkEvents = 500
	o.Progress = func(p Progress) {
		if p.Phase == Importing {
			cancel()
		}
	}
	if _, err := Import(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	whole := commandtest.New(t)
	imported(t, whole, Sample())
	done := told(k.Log())
	wantSame(t, done, told(whole.Log())[:len(done)])
	imported(t, k, Sample())
	wantSame(t, told(k.Log()), told(whole.Log()))
}
