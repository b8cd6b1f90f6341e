// Package ratelimit counts how often each client asks, in Redis for all processes together, and in the process itself while Redis is away.
package ratelimit

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/go-redis/redis_rate/v10"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/millrace/millrace/internal/breaker"
)

const (
	// wait is how long Redis may take to count a request, where nothing else is said. It answers in well under a millisecond, or is not well.
	wait = 25 * time.Millisecond
	// clients is how many the process remembers by itself, those that asked last.
	clients = 10_000
)

// Options are the parts of a Limiter.
type Options struct {
	// Redis is where requests are counted.
	Redis redis.UniversalClient
	// Prefix begins the keys there, behind "rate:".
	Prefix string
	// Secret is the key of the hashes under which clients are kept: no address or token can be read off Redis, or guessed from it.
	Secret []byte
	// Wait is how long Redis may take to count a request before the process counts it by itself; 0 for 25 ms.
	Wait time.Duration
	// Names are those of the limits that there are: their refusals are told from the start.
	Names []string
	// Logger is nil for slog.Default.
	Logger *slog.Logger
	// Metrics registers the limiter's metrics; nil keeps them out of sight.
	Metrics prometheus.Registerer
}

// Limiter counts requests. The zero Limiter is not usable; see New.
type Limiter struct {
	redis   *redis_rate.Limiter
	wait    time.Duration
	breaker *breaker.Breaker
	prefix  string
	secret  []byte

	// denied are clients that are over their limit, with the last answer and until when it holds: a flood does not reach Redis.
	denied *lru.Cache[string, denial]
	// own count for those who ask while Redis is away.
	own *lru.Cache[string, *rate.Limiter]

	limited *prometheus.CounterVec
}

type denial struct {
	Decision
	n  int // fewer might be allowed
	at time.Time
}

// New returns a limiter.
func New(o Options) (*Limiter, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	l := &Limiter{redis: redis_rate.NewLimiter(o.Redis), wait: cmp.Or(o.Wait, wait), prefix: o.Prefix, secret: o.Secret}
	var err error
	if l.denied, err = lru.New[string, denial](clients); err != nil {
		return nil, err
	}
	if l.own, err = lru.New[string, *rate.Limiter](clients); err != nil {
		return nil, err
	}
	l.breaker = breaker.New(breaker.Options{Name: "redis rate limits", Logger: o.Logger, Metrics: o.Metrics})
	with := promauto.With(o.Metrics)
	l.limited = with.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_rate_limited_total", Help: "Requests refused because their client asks too often.",
	}, []string{"limit"})
	for _, name := range o.Names {
		l.limited.WithLabelValues(name)
	}
	with.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_rate_limit_fallback", Help: "1 while Redis cannot be asked, and each process counts for itself.",
	}, func() float64 {
		if l.breaker.Closed() {
			return 0
		}
		return 1
	})
	return l, nil
}

// LeftAlone names the limits while the process counts by itself, because Redis did not answer.
func (l *Limiter) LeftAlone() []string { return l.breaker.LeftAlone() }

// Limit is a rate under a name that metrics and keys have.
type Limit struct {
	Name string
	Rate
}

// Decision is what became of a request.
type Decision struct {
	Limit   Limit
	Allowed bool
	// Remaining is how many more may follow at once.
	Remaining int
	// Reset is how long it takes until all may.
	Reset time.Duration
	// RetryAfter is when the next one may come; for those that are not allowed.
	RetryAfter time.Duration
}

// Allow is AllowN for one.
func (l *Limiter) Allow(ctx context.Context, limit Limit, client string) Decision {
	return l.AllowN(ctx, limit, client, 1)
}

// AllowN counts n requests of a client, whatever it is known by: all of them or, if that are too many, none. More than the limit has room for
// are never allowed, however long the client waits. It does not fail: while Redis cannot be asked, the process decides by what it has seen
// itself.
func (l *Limiter) AllowN(ctx context.Context, limit Limit, client string, n int) Decision {
	if limit.Off() {
		return Decision{Limit: limit, Allowed: true}
	}
	key := l.key(limit, client)
	d, known := l.stillDenied(key, n)
	if !known {
		d = l.decide(ctx, limit, key, n)
	}
	if !d.Allowed {
		l.limited.WithLabelValues(limit.Name).Inc()
	}
	return d
}

func (l *Limiter) key(limit Limit, client string) string {
	mac := hmac.New(sha256.New, l.secret)
	_, _ = mac.Write([]byte(client)) // a hash never fails
	const enough = 16
	return l.prefix + limit.Name + ":" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:enough])
}

func (l *Limiter) decide(ctx context.Context, limit Limit, key string, n int) Decision {
	if !l.breaker.Allow() {
		return l.alone(limit, key, n)
	}
	// A client that goes away tells nothing about Redis.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.wait)
	defer cancel()
	r, err := l.redis.AllowN(ctx, key, redis_rate.Limit{Rate: limit.Requests, Burst: limit.Requests, Period: limit.Period}, n)
	if err != nil {
		l.breaker.Failed()
		return l.alone(limit, key, n)
	}
	l.breaker.Succeeded()
	d := Decision{Limit: limit, Allowed: r.Allowed > 0, Remaining: r.Remaining, Reset: r.ResetAfter, RetryAfter: r.RetryAfter}
	if !d.Allowed {
		// Redis says 0 to whom it refuses several, though fewer may have room.
		d.Remaining = max(0, int(float64(limit.Requests)*(1-r.ResetAfter.Seconds()/limit.Period.Seconds())))
		l.denied.Add(key, denial{d, n, time.Now()})
	}
	return d
}

// stillDenied repeats the last answer to a client that does not heed it.
func (l *Limiter) stillDenied(key string, n int) (Decision, bool) {
	last, ok := l.denied.Get(key)
	if !ok || n < last.n {
		return Decision{}, false
	}
	since := time.Since(last.at)
	if since >= last.RetryAfter {
		l.denied.Remove(key)
		return Decision{}, false
	}
	d := last.Decision
	d.RetryAfter -= since
	d.Reset -= since
	return d, true
}

// alone decides in this process.
func (l *Limiter) alone(limit Limit, key string, n int) Decision {
	bucket, ok := l.own.Get(key)
	if !ok {
		bucket = rate.NewLimiter(rate.Limit(float64(limit.Requests)/limit.Period.Seconds()), limit.Requests)
		if other, found, _ := l.own.PeekOrAdd(key, bucket); found {
			bucket = other
		}
	}
	d := Decision{Limit: limit, Allowed: bucket.AllowN(time.Now(), n)}
	tokens := bucket.Tokens()
	d.Remaining = max(0, int(tokens))
	after := func(missing float64) time.Duration {
		return time.Duration(missing / float64(bucket.Limit()) * float64(time.Second))
	}
	d.Reset = after(float64(limit.Requests) - tokens)
	if !d.Allowed {
		d.RetryAfter = after(float64(n) - tokens)
	}
	return d
}

// Headers of an answer that tell a client how often it may still ask (draft-ietf-httpapi-ratelimit-headers-03).
const (
	headerLimit     = "RateLimit-Limit"
	headerRemaining = "RateLimit-Remaining"
	headerReset     = "RateLimit-Reset"
	headerPolicy    = "RateLimit-Policy"
)

// Write tells the client, in the header of its answer. Where a request counts against several limits, all are told as policies, and the
// figures are those of the one that ends first.
func (d Decision) Write(header http.Header) {
	if d.Limit.Off() {
		return
	}
	if policies := header.Get(headerPolicy); policies != "" {
		header.Set(headerPolicy, policies+", "+d.Limit.String())
	} else {
		header.Set(headerPolicy, d.Limit.String())
	}
	if other, err := strconv.Atoi(header.Get(headerRemaining)); err == nil && d.Allowed && other <= d.Remaining {
		return
	}
	header.Set(headerLimit, strconv.Itoa(d.Limit.Requests))
	header.Set(headerRemaining, strconv.Itoa(d.Remaining))
	header.Set(headerReset, strconv.Itoa(int(math.Ceil(d.Reset.Seconds()))))
}
