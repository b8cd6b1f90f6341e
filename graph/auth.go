package graph

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// identity is who sent a request.
type identity struct {
	staff bool
	// credentials is set when the request had any, valid or not: its answer is nobody else's.
	credentials bool
	correlation string
	// trace is the W3C traceparent of the request, "" for none.
	trace string
}

// identify reads who sent the request, and what it is called.
func (h *Handler) identify(header http.Header) (identity, *Error) {
	id, denied := h.sender(header)
	id.correlation = newCorrelation()
	if t := header.Get("Traceparent"); validTrace(t) {
		id.trace, id.correlation = t, t[3:35]
	}
	return id, denied
}

// sender reads who sent the request. A wrong token is an error: nobody is made a guest by a typing mistake.
func (h *Handler) sender(header http.Header) (id identity, denied *Error) {
	values := header.Values("Authorization")
	if len(values) == 0 {
		return id, nil
	}
	id.credentials = true
	if len(values) > 1 {
		return id, errNoSchemeAs
	}
	denied = h.authorise(&id, values[0])
	return id, denied
}

// authorise makes the identity staff if the authorization is the staff's.
func (h *Handler) authorise(id *identity, authorization string) *Error {
	scheme, token, ok := strings.Cut(authorization, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return errNoSchemeAs
	}
	if !h.isStaff(strings.TrimSpace(token)) {
		return errBadToken
	}
	id.staff = true
	return nil
}

// isStaff compares in a time that tells nothing about the right token, its length included.
func (h *Handler) isStaff(token string) bool {
	if h.options.StaffToken == "" {
		return false
	}
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(h.options.StaffToken))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// client returns whom a request counts for. A token that is not valid makes nobody another client: else everybody would be a new one each
// time.
func (h *Handler) client(peer string, header http.Header, id identity) Client {
	c := Client{Peer: peer, Header: header}
	if id.staff {
		c.Token = h.options.StaffToken
	}
	return c
}

// validTrace reports whether s is a traceparent: 00-<32 hex digits>-<16 hex digits>-<2 hex digits>.
func validTrace(s string) bool {
	const length = 55
	if len(s) != length || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return false
	}
	for _, part := range []string{s[3:35], s[36:52], s[53:]} {
		if strings.ContainsFunc(part, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') }) {
			return false
		}
	}
	return s[3:35] != strings.Repeat("0", 32)
}
