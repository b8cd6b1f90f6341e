package bench

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	// The faults that a proxy knows register themselves.
	_ "github.com/Shopify/toxiproxy/v2/toxics"
)

// slowLine is a connection to a server over which every answer takes longer.
type slowLine struct{ proxy *toxiproxy.Proxy }

// newSlowLine returns a line to the server that a URL names, and the URL to reach it by. Answers arrive later by the latency.
func newSlowLine(serverURL string, latency time.Duration) (l *slowLine, through string, err error) {
	u, err := url.Parse(serverURL)
	if err != nil {
		return nil, "", errors.New("bench: the address of a server is not a URL") // without it: it holds a password
	}
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l = &slowLine{toxiproxy.NewProxy(server, "slow line", "127.0.0.1:0", u.Host)}
	if err := l.proxy.Start(); err != nil {
		return nil, "", fmt.Errorf("bench: starting a proxy: %w", err)
	}
	toxic := fmt.Sprintf(`{"name":"late","type":"latency","stream":"downstream","attributes":{"latency":%d}}`, latency.Milliseconds())
	if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		l.close()
		return nil, "", fmt.Errorf("bench: slowing a proxy down: %w", err)
	}
	u.Host = l.proxy.Listen
	return l, u.String(), nil
}

func (l *slowLine) close() { l.proxy.Stop() }
