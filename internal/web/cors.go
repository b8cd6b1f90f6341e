package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// What browsers of other origins may send and see.
const (
	allowedMethods = "GET, POST, OPTIONS"
	allowedHeaders = "Accept, Authorization, Content-Type, Idempotency-Key, If-None-Match, Millrace-Position, Traceparent"
	exposedHeaders = "Cache-Status, ETag, Millrace-Position, Retry-After, RateLimit-Limit, RateLimit-Policy, RateLimit-Remaining, RateLimit-Reset"
	preflightAge   = "600"
)

// ParseOrigins reads a list of origins with commas between them, such as https://shop.example; "*" means all.
func ParseOrigins(list string) ([]string, error) {
	var origins []string
	for o := range strings.SplitSeq(list, ",") {
		o = strings.TrimRight(strings.TrimSpace(o), "/")
		if o == "" {
			continue
		}
		if u, err := url.Parse(o); o != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != o) {
			return nil, fmt.Errorf("%q is not an origin such as https://shop.example", o)
		}
		origins = append(origins, o)
	}
	return origins, nil
}

// CORS lets browsers of the origins use what next serves. Credentials travel in the Authorization header, never in
// cookies, so that nothing else has to be allowed. Without origins it is next itself.
func CORS(origins []string, next http.Handler) http.Handler {
	if len(origins) == 0 {
		return next
	}
	all := slices.Contains(origins, "*")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		allowed := origin != "" && (all || slices.Contains(origins, origin))
		switch {
		case all:
			origin = "*"
		default:
			w.Header().Add("Vary", "Origin")
		}
		if allowed {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Expose-Headers", exposedHeaders)
		}
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			if allowed {
				w.Header().Set("Access-Control-Allow-Methods", allowedMethods)
				w.Header().Set("Access-Control-Allow-Headers", allowedHeaders)
				w.Header().Set("Access-Control-Max-Age", preflightAge)
			}
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}
