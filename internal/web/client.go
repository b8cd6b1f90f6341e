package web

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Headers that proxies put the address of their client in. Only one is believed: what a proxy does not write itself it hands on as the
// client sent it.
const (
	XForwardedFor = "X-Forwarded-For"
	Forwarded     = "Forwarded" // RFC 7239
)

// Proxies are the networks of the proxies in front of this process. The zero Proxies are none.
type Proxies struct {
	networks []netip.Prefix
	header   string
}

// ParseProxies reads a list of networks or addresses with commas between them, such as 10.0.0.0/8,2001:db8::1, or "none". Header is what these proxies
// write their client's address to, [XForwardedFor] or [Forwarded].
func ParseProxies(list, header string) (Proxies, error) {
	p := Proxies{header: http.CanonicalHeaderKey(header)}
	if p.header != XForwardedFor && p.header != Forwarded {
		return Proxies{}, fmt.Errorf("proxies name their clients in %s or %s, not in %q", XForwardedFor, Forwarded, header)
	}
	for text := range strings.SplitSeq(list, ",") {
		text = strings.TrimSpace(text)
		if text == "" || list == "none" {
			continue
		}
		network, err := netip.ParsePrefix(text)
		if a, addrErr := netip.ParseAddr(text); addrErr == nil {
			network, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return Proxies{}, fmt.Errorf("%q is not a network such as 10.0.0.0/8", text)
		}
		p.networks = append(p.networks, network.Masked())
	}
	return p, nil
}

// Client returns the address that a request came from: the peer's own or, if that is a trusted proxy, the last in its header that is none,
// since those before it are hearsay. An address that cannot be read ends the search at the proxy that told it. Direct says that no header
// mentions that the request was forwarded.
func (p Proxies) Client(peer string, header http.Header) (client netip.Addr, direct bool) {
	direct = !slices.ContainsFunc([]string{XForwardedFor, Forwarded, "X-Real-Ip"}, func(name string) bool { return len(header.Values(name)) > 0 })
	client, _ = parseHop(peer)
	lines := header.Values(p.header)
	for i := len(lines) - 1; i >= 0; i-- {
		hops := strings.Split(lines[i], ",")
		if p.header == Forwarded {
			hops = forwardedFor(lines[i])
		}
		for j := len(hops) - 1; j >= 0; j-- {
			if !p.trusted(client) {
				return client, direct
			}
			hop, ok := parseHop(hops[j])
			if !ok {
				return client, direct
			}
			client = hop
		}
	}
	return client, direct
}

func (p Proxies) trusted(a netip.Addr) bool {
	return slices.ContainsFunc(p.networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// parseHop reads an address with or without a port.
func parseHop(text string) (netip.Addr, bool) {
	text = strings.TrimSpace(text)
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		var withPort netip.AddrPort
		if withPort, err = netip.ParseAddrPort(text); err != nil {
			return netip.Addr{}, false
		}
		a = withPort.Addr()
	}
	return a.Unmap().WithZone(""), true
}

// forwardedFor returns the parameters "for" of one line of Forwarded, in order; "" stands for an element without a readable one.
func forwardedFor(line string) []string {
	var hops []string
	for _, element := range splitUnquoted(line, ',') {
		hop := ""
		for _, parameter := range splitUnquoted(element, ';') {
			name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			if !strings.EqualFold(name, "for") {
				continue
			}
			if inner, ok := strings.CutPrefix(value, `"`); ok {
				if value, ok = strings.CutSuffix(inner, `"`); !ok {
					value = "" // a quote that does not end
				}
			}
			hop = value // one with quotes or backslashes within is no address
		}
		hops = append(hops, hop)
	}
	return hops
}

// splitUnquoted splits at a separator where it is not within quotes.
func splitUnquoted(text string, separator byte) []string {
	var parts []string
	quoted, begin := false, 0
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quoted:
			i++
		case text[i] == '"':
			quoted = !quoted
		case text[i] == separator && !quoted:
			parts = append(parts, text[begin:i])
			begin = i + 1
		}
	}
	return append(parts, text[begin:])
}

// ClientNetwork returns what is taken for one client: an IPv4 address, or the /64 of an IPv6 address, which is what one subscriber has at
// least (RFC 6177).
func ClientNetwork(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}
