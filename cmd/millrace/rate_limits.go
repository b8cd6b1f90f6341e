package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/millrace/millrace/graph"
	"github.com/millrace/millrace/internal/ratelimit"
	"github.com/millrace/millrace/internal/web"
)

// clientFlags say how often a client may ask, and how clients are told apart.
type clientFlags struct {
	RateLimit          string        `default:"1200/1m" env:"MILLRACE_RATE_LIMIT" placeholder:"N/PERIOD" help:"Requests that one client may send; 0 for any number."`
	RateLimitMutations string        `default:"300/1m" env:"MILLRACE_RATE_LIMIT_MUTATIONS" placeholder:"N/PERIOD" help:"Mutations among them; 0 for any number."`
	RateLimitWait      time.Duration `default:"25ms" env:"MILLRACE_RATE_LIMIT_WAIT" placeholder:"TIME" help:"How long Redis may take to count a request; after that the process counts by itself."`
	RateLimitLoopback  toggle        `env:"MILLRACE_RATE_LIMIT_LOOPBACK" help:"Limit clients on this machine too."`
	TrustedProxies     string        `default:"127.0.0.0/8,::1" env:"MILLRACE_TRUSTED_PROXIES" placeholder:"NETWORK,..." help:"Proxies whose word for their client's address is taken."`
	ForwardedHeader    string        `default:"X-Forwarded-For" env:"MILLRACE_FORWARDED_HEADER" placeholder:"NAME" help:"What these proxies write that address to: X-Forwarded-For or Forwarded."`
}

// rateLimits count what clients ask for.
type rateLimits struct {
	limiter             *ratelimit.Limiter
	requests, mutations ratelimit.Limit
	proxies             web.Proxies
	loopback            bool
}

// parse returns the limits that the flags ask for, still without a limiter, or what is wrong with them.
func (f clientFlags) parse() (*rateLimits, error) {
	l := &rateLimits{requests: ratelimit.Limit{Name: "requests"}, mutations: ratelimit.Limit{Name: "mutations"}, loopback: bool(f.RateLimitLoopback)}
	var err error
	if l.requests.Rate, err = ratelimit.ParseRate(f.RateLimit); err != nil {
		return nil, usageError{fmt.Errorf("--rate-limit (MILLRACE_RATE_LIMIT): %w", err)}
	}
	if l.mutations.Rate, err = ratelimit.ParseRate(f.RateLimitMutations); err != nil {
		return nil, usageError{fmt.Errorf("--rate-limit-mutations (MILLRACE_RATE_LIMIT_MUTATIONS): %w", err)}
	}
	if l.proxies, err = web.ParseProxies(f.TrustedProxies, f.ForwardedHeader); err != nil {
		return nil, usageError{fmt.Errorf("--trusted-proxies (MILLRACE_TRUSTED_PROXIES), --forwarded-header (MILLRACE_FORWARDED_HEADER): %w", err)}
	}
	if f.RateLimitWait <= 0 {
		return nil, usageError{fmt.Errorf("--rate-limit-wait (MILLRACE_RATE_LIMIT_WAIT): must be above zero, not %v", f.RateLimitWait)}
	}
	return l, nil
}

// newRateLimits returns the limits that the flags ask for.
func (f clientFlags) newRateLimits(s *shop) (*rateLimits, error) {
	l, err := f.parse()
	if err != nil {
		return nil, err
	}
	secret, err := s.flags.secret()
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(append([]byte("millrace rate limits\x00"), secret...)) // a key of its own
	l.limiter, err = ratelimit.New(ratelimit.Options{
		Redis: s.limitRedis, Prefix: fmt.Sprintf("mr:%s:", s.log.Info().ID), Secret: key[:], Wait: f.RateLimitWait,
		Names: []string{l.requests.Name, l.mutations.Name}, Logger: s.logger, Metrics: s.registry,
	})
	if err == nil {
		s.tellOf(l.limiter)
	}
	return l, err
}

// limit counts a request, or the mutations of one, for its client: the token that it has shown, or else where it comes from.
func (l *rateLimits) limit(ctx context.Context, c graph.Client, mutations int, answer http.Header) error {
	address, direct := l.proxies.Client(c.Peer, c.Header)
	if direct && address.IsLoopback() && !l.loopback {
		return nil
	}
	limit, n := l.requests, 1
	if mutations > 0 {
		limit, n = l.mutations, mutations
	}
	if !limit.Off() && n > limit.Requests { // there will never be room for them
		return &graph.Error{
			Code:    graph.BadUserInput,
			Message: fmt.Sprintf("the operation has %d mutations, and %d in %s are allowed: send fewer at a time; nothing has happened", n, limit.Requests, limit.Period),
		}
	}
	d := l.limiter.AllowN(ctx, limit, clientName(c, address), n)
	d.Write(answer)
	if d.Allowed {
		return nil
	}
	return &graph.Error{
		Code:       graph.RateLimited,
		Message:    fmt.Sprintf("Too many %s: %d in %s are allowed; nothing has happened, try again later.", limit.Name, limit.Requests, limit.Period),
		RetryAfter: d.RetryAfter,
	}
}

func clientName(c graph.Client, address netip.Addr) string {
	if c.Token != "" {
		return "token " + c.Token
	}
	return "address " + web.ClientNetwork(address).String()
}
