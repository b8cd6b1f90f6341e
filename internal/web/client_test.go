package web_test

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/millrace/millrace/internal/web"
)

// TestClient checks whom a request is taken to come from, for what proxies add and for what clients make up.
func TestClient(t *testing.T) {
	const proxies = "127.0.0.0/8, ::1, 10.0.0.0/8, 2001:db8:ffff::/48"
	for name, c := range map[string]struct {
		header string // which is believed
		peer   string
		xff    []string
		fwd    []string
		want   string
		direct bool
	}{
		"direct":                              {"X-Forwarded-For", "203.0.113.7:1234", nil, nil, "203.0.113.7", true},
		"loopback":                            {"X-Forwarded-For", "127.0.0.1:1234", nil, nil, "127.0.0.1", true},
		"loopback in IPv6":                    {"X-Forwarded-For", "[::1]:1234", nil, nil, "::1", true},
		"IPv4 in IPv6":                        {"X-Forwarded-For", "[::ffff:203.0.113.7]:1234", nil, nil, "203.0.113.7", true},
		"behind a proxy":                      {"X-Forwarded-For", "10.0.0.1:1234", []string{"203.0.113.7"}, nil, "203.0.113.7", false},
		"behind two proxies":                  {"X-Forwarded-For", "10.0.0.1:1234", []string{"203.0.113.7, 10.9.9.9"}, nil, "203.0.113.7", false},
		"behind two proxies, two lines":       {"X-Forwarded-For", "10.0.0.1:1234", []string{"203.0.113.7", "10.9.9.9"}, nil, "203.0.113.7", false},
		"made up in front":                    {"X-Forwarded-For", "10.0.0.1:1234", []string{"1.2.3.4, 203.0.113.7"}, nil, "203.0.113.7", false},
		"made up in front, two lines":         {"X-Forwarded-For", "10.0.0.1:1234", []string{"1.2.3.4", "203.0.113.7"}, nil, "203.0.113.7", false},
		"made up: a trusted address in front": {"X-Forwarded-For", "10.0.0.1:1234", []string{"10.1.1.1, 203.0.113.7"}, nil, "203.0.113.7", false},
		"made up: loopback":                   {"X-Forwarded-For", "203.0.113.7:1234", []string{"127.0.0.1"}, nil, "203.0.113.7", false},
		"made up: loopback behind a proxy":    {"X-Forwarded-For", "10.0.0.1:1234", []string{"127.0.0.1, 203.0.113.7"}, nil, "203.0.113.7", false},
		"made up: no proxy":                   {"X-Forwarded-For", "203.0.113.7:1234", []string{"1.2.3.4"}, nil, "203.0.113.7", false},
		"made up: the other header":           {"X-Forwarded-For", "10.0.0.1:1234", []string{"203.0.113.7"}, []string{"for=1.2.3.4"}, "203.0.113.7", false},
		"only the other header":               {"X-Forwarded-For", "127.0.0.1:1234", nil, []string{"for=1.2.3.4"}, "127.0.0.1", false},
		"all are proxies":                     {"X-Forwarded-For", "10.0.0.1:1234", []string{"10.0.0.3, 10.0.0.2"}, nil, "10.0.0.3", false},
		"garbage":                             {"X-Forwarded-For", "10.0.0.1:1234", []string{"1.2.3.4, unknown"}, nil, "10.0.0.1", false},
		"garbage behind a proxy":              {"X-Forwarded-For", "10.0.0.1:1234", []string{"1.2.3.4, <script>, 10.9.9.9"}, nil, "10.9.9.9", false},
		"empty":                               {"X-Forwarded-For", "10.0.0.1:1234", []string{""}, nil, "10.0.0.1", false},
		"with a port":                         {"X-Forwarded-For", "10.0.0.1:1234", []string{"203.0.113.7:4711"}, nil, "203.0.113.7", false},
		"IPv6 with a port":                    {"X-Forwarded-For", "10.0.0.1:1234", []string{"[2001:db8::7]:4711"}, nil, "2001:db8::7", false},
		"IPv6 with a zone":                    {"X-Forwarded-For", "10.0.0.1:1234", []string{"fe80::1%eth0"}, nil, "fe80::1", false},
		"an IPv6 proxy":                       {"X-Forwarded-For", "[2001:db8:ffff::1]:80", []string{"2001:db8::7"}, nil, "2001:db8::7", false},

		"forwarded":                      {"Forwarded", "10.0.0.1:1234", nil, []string{"for=203.0.113.7"}, "203.0.113.7", false},
		"forwarded, IPv6":                {"forwarded", "10.0.0.1:1234", nil, []string{`For="[2001:db8::7]:4711";proto=https`}, "2001:db8::7", false},
		"forwarded, two proxies":         {"Forwarded", "10.0.0.1:1234", nil, []string{`for=203.0.113.7;by=10.9.9.9, proto=http ; for=10.9.9.9`}, "203.0.113.7", false},
		"forwarded, made up in front":    {"Forwarded", "10.0.0.1:1234", nil, []string{`for=1.2.3.4, for=203.0.113.7`}, "203.0.113.7", false},
		"forwarded, hidden":              {"Forwarded", "10.0.0.1:1234", nil, []string{`for=1.2.3.4, for=_hidden`}, "10.0.0.1", false},
		"forwarded, without for":         {"Forwarded", "10.0.0.1:1234", nil, []string{`for=1.2.3.4, proto=https`}, "10.0.0.1", false},
		"forwarded, a quote left open":   {"Forwarded", "10.0.0.1:1234", nil, []string{`for="1.2.3.4, for=203.0.113.7`}, "10.0.0.1", false},
		"forwarded, a quote over others": {"Forwarded", "10.0.0.1:1234", nil, []string{`for="1.2.3.4, for="[2001:db8::7]"`}, "10.0.0.1", false},
		"forwarded, an open line before": {"Forwarded", "10.0.0.1:1234", nil, []string{`for="1.2.3.4`, `for=203.0.113.7`}, "203.0.113.7", false},
		"forwarded, the other header":    {"Forwarded", "10.0.0.1:1234", []string{"1.2.3.4"}, []string{`for=203.0.113.7`}, "203.0.113.7", false},
	} {
		p, err := web.ParseProxies(proxies, c.header)
		if err != nil {
			t.Fatal(err)
		}
		header := http.Header{}
		for _, line := range c.xff {
			header.Add("X-Forwarded-For", line)
		}
		for _, line := range c.fwd {
			header.Add("Forwarded", line)
		}
		if got, direct := p.Client(c.peer, header); got.String() != c.want || direct != c.direct {
			t.Errorf("%s: %s, direct %v", name, got, direct)
		}
	}
	if got, _ := (web.Proxies{}).Client("127.0.0.1:1", http.Header{"X-Forwarded-For": {"1.2.3.4"}}); got.String() != "127.0.0.1" {
		t.Errorf("without proxies the client is %s", got)
	}
	for _, list := range []string{"10.0.0.0/33", "proxy.example", "10.0.0.0/8;10.1.0.0/16"} {
		if _, err := web.ParseProxies(list, "Forwarded"); err == nil {
			t.Errorf("%q is taken for networks", list)
		}
	}
	if _, err := web.ParseProxies("", "X-Real-IP"); err == nil {
		t.Error("X-Real-IP is taken for a header of which each proxy adds a part")
	}
}

// TestClientNetwork checks who shares a limit.
func TestClientNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"203.0.113.7": "203.0.113.7/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "2001:db8:1:2::9": "2001:db8:1:2::/64",
	} {
		if got := web.ClientNetwork(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("%s: %s, not %s", address, got, want)
		}
	}
}
