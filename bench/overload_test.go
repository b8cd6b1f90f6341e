package bench

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestMixture(t *testing.T) {
	t.Parallel()
	var counts [visitKinds]int
	last, widest := 0, 0
	for n, kind := range mixture(offered) {
		counts[kind]++
		if kind == fillCart {
			last, widest = n, max(widest, n-last)
		}
	}
	if counts != [visitKinds]int{lookAtPages: 935, fillCart: 50, checkOut: 10, readReport: 5} || widest > 30 {
		t.Errorf("it is %v, and carts are up to %d apart", counts, widest)
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	const overloadedBody = `{"errors":[{"message":"no","extensions":{"code":"OVERLOADED"}}]}`
	for name, c := range map[string]struct {
		reply
		want verdict
	}{
		"done":               {reply{status: 200, body: []byte(`{"data":{"cart":{"userErrors":[]}}}`)}, accepted},
		"a rule was broken":  {reply{status: 200, body: []byte(`{"data":{"checkout":{"userErrors":[{"code":"OUT_OF_STOCK"}]}}}`)}, spoiled},
		"an error":           {reply{status: 200, body: []byte(`{"errors":[{"message":"no"}],"data":null}`)}, spoiled},
		"refused":            {reply{status: 503, retryAfter: true, body: []byte(overloadedBody)}, turned},
		"for how long":       {reply{status: 503, body: []byte(overloadedBody)}, spoiled},
		"for another reason": {reply{status: 503, retryAfter: true, body: []byte(`{"errors":[{"extensions":{"code":"UNAVAILABLE"}}]}`)}, spoiled},
		"too often":          {reply{status: 429, retryAfter: true, body: []byte(overloadedBody)}, spoiled},
	} {
		if got := judge(c.reply); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// A crowd that comes does not wait for answers: while the server answers nobody, everybody is sent, and time runs from when they were due.
func TestCrowd(t *testing.T) {
	t.Parallel()
	const people = 40
	var asked atomic.Int64
	all := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == people {
			close(all)
		}
		<-all
		if r.URL.Path == "/later" {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, "answer")
	}))
	defer server.Close()
	c := &crowd{address: strings.TrimPrefix(server.URL, "http://"), connections: make([]*connection, people)}
	c.attend = func(conn *connection, n int) (visitKind, verdict, error) {
		path := "/"
		if n%4 == 3 {
			path = "/later"
		}
		r, err := conn.exchange([]byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"))
		switch {
		case err != nil:
			return lookAtPages, spoiled, err
		case string(r.body) != "answer":
			return lookAtPages, spoiled, fmt.Errorf("got %q", r.body)
		case r.status == 503 && r.retryAfter:
			return lookAtPages, turned, nil
		case r.status == 200 && n == 0:
			return fillCart, spoiled, errors.New("it is to break")
		}
		return lookAtPages, accepted, nil
	}
	defer c.close()
	visits := c.come(t.Context(), 10*people, 100*time.Millisecond)
	if len(visits) != people || count(visits, turned) != people/4 || count(visits, spoiled, fillCart) != 1 || count(visits, accepted) != people*3/4-1 {
		t.Fatalf("%s", describeVisits(visits, time.Second))
	}
	if text, n := "it is to break", 0; true {
		c.problems.Range(func(any, any) bool { n++; return true })
		if _, told := c.problems.Load(text); !told || n != 1 {
			t.Errorf("%d problems were told, and %q among them: %t", n, text, told)
		}
	}
	for _, v := range visits {
		if v.due.Equal(visits[0].due) {
			continue
		}
		if v.late < 0 || v.took <= 0 {
			t.Errorf("a visit was %s late and took %s", v.late, v.took)
		}
	}
}

func TestFiguresOfAnOverload(t *testing.T) {
	t.Parallel()
	end := time.Now()
	visits := func(n int, kind visitKind, result verdict, took time.Duration, due time.Time) (all []visit) {
		for range n {
			all = append(all, visit{kind: kind, result: result, due: due, late: time.Millisecond, took: took - time.Millisecond})
		}
		return all
	}
	o := &overloaded{peak: 100, same: 50, length: 10 * time.Second, ended: end, memoryBefore: 100, memoryMost: 150, memoryAfter: 120}
	o.unloaded = visits(100, lookAtPages, accepted, 10*time.Millisecond, end)
	o.load = append(visits(300, lookAtPages, accepted, 20*time.Millisecond, end), visits(100, checkOut, accepted, 29*time.Millisecond, end)...)
	o.load = append(o.load, visits(4600, lookAtPages, turned, 2*time.Millisecond, end)...)
	o.after = visits(1, lookAtPages, turned, time.Millisecond, end.Add(450*time.Millisecond))
	for at := time.Duration(0); at < afterLength; at += 50 * time.Millisecond {
		o.after = append(o.after, visits(1, lookAtPages, accepted, 9*time.Millisecond, end.Add(at))...)
	}
	got := make(map[string]Figure)
	for _, f := range o.figures() {
		got[f.Name] = f
	}
	for name, want := range map[string]float64{
		"overload-offered": 500, "overload-accepted": 40, "overload-p99": 29, "overload-p99-since-sent": 28, "overload-generator-late-p99": 1,
		"overload-refusal-p50": 2, "overload-failed": 0, "overload-memory": 150, "overload-recovery": 0.5,
		"overload-checkout-accepted": 10, "overload-checkout-refused": 0, "overload-browse-refused": 460, "overload-browse-p99": 20,
	} {
		if f, ok := got[name]; !ok || f.Value != want {
			t.Errorf("%s is %v (%t), want %v", name, f.Value, ok, want)
		}
	}
	for name, f := range got {
		if f.Met != nil && !*f.Met {
			t.Errorf("%s is not met: %+v", name, f)
		}
	}
	if f := got["overload-accepted"]; *f.Ratio != 0.8 {
		t.Errorf("it accepted %v of what it can do of the same", *f.Ratio)
	}
	o.after = visits(5, lookAtPages, turned, time.Millisecond, end)
	if r := o.recovery(time.Second); r != afterLength {
		t.Errorf("it never came back, and that after %s", r)
	}
}
