package stacktest

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	// The faults that a proxy knows register themselves.
	_ "github.com/Shopify/toxiproxy/v2/toxics"
)

// Proxy stands between a client and a server and breaks the network between them on demand.
type Proxy struct {
	t     testing.TB
	proxy *toxiproxy.Proxy
}

// NewProxy starts a proxy before the server at an address (host:port), on a free port of the loopback address. The end
// of the test stops it.
func NewProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := &Proxy{t: t, proxy: toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", upstream)}
	if err := p.proxy.Start(); err != nil {
		t.Fatalf("stacktest: starting a proxy: %v", err)
	}
	t.Cleanup(p.proxy.Stop)
	return p
}

// ProxyURL starts a proxy before the server that a URL names, and returns it with the URL that goes through it.
func ProxyURL(t testing.TB, serverURL string) (p *Proxy, through string) {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatalf("stacktest: proxy: %v", err)
	}
	p = NewProxy(t, u.Host)
	return p, p.URL(serverURL)
}

// Addr is where clients find the proxy.
func (p *Proxy) Addr() string { return p.proxy.Listen }

// URL is a URL of the server rewritten to go through the proxy.
func (p *Proxy) URL(serverURL string) string {
	p.t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		p.t.Fatalf("stacktest: proxy: %v", err)
	}
	u.Host = p.Addr()
	return u.String()
}

// Cut closes all connections and refuses new ones, until Heal.
func (p *Proxy) Cut() { p.proxy.Stop() }

// Stall keeps connections open and swallows everything that is sent over them towards the client, until Heal: requests
// reach the server, answers are lost. Connections that were stalled are closed by Heal.
func (p *Proxy) Stall() {
	p.t.Helper()
	if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(`{"name":"stall","type":"timeout","stream":"downstream","attributes":{"timeout":0}}`)); err != nil {
		p.t.Fatalf("stacktest: stalling a proxy: %v", err)
	}
}

// Clog takes hardly anything that clients send, until Heal: once the buffers between are full, whoever sends more waits.
func (p *Proxy) Clog() {
	p.t.Helper()
	if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(`{"name":"clog","type":"bandwidth","stream":"upstream","attributes":{"rate":1}}`)); err != nil {
		p.t.Fatalf("stacktest: clogging a proxy: %v", err)
	}
}

// Reset breaks off every connection, new ones too, as soon as the server answers on it, until Heal: requests reach the server,
// answers are lost.
func (p *Proxy) Reset() {
	p.t.Helper()
	if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(`{"name":"reset","type":"reset_peer","stream":"downstream","attributes":{"timeout":0}}`)); err != nil {
		p.t.Fatalf("stacktest: resetting the connections of a proxy: %v", err)
	}
}

// Delay holds back every answer for a time in milliseconds, until Heal.
func (p *Proxy) Delay(milliseconds int) {
	p.t.Helper()
	toxic := fmt.Sprintf(`{"name":"delay","type":"latency","stream":"downstream","attributes":{"latency":%d}}`, milliseconds)
	if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		p.t.Fatalf("stacktest: delaying a proxy: %v", err)
	}
}

// Heal takes all faults away.
func (p *Proxy) Heal() {
	p.t.Helper()
	p.proxy.Toxics.ResetToxics(context.WithoutCancel(p.t.Context()))
	if p.proxy.Enabled {
		return
	}
	if err := p.proxy.Start(); err != nil {
		p.t.Fatalf("stacktest: healing a proxy: %v", err)
	}
}
