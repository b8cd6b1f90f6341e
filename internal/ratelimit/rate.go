package ratelimit

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Rate is how often something may happen: so many times at once, and as many again in each period, evenly. The zero Rate is no limit.
type Rate struct {
	Requests int
	Period   time.Duration
}

// ParseRate reads a rate such as 600/1m; 0 is no limit.
func ParseRate(text string) (Rate, error) {
	if text == "0" {
		return Rate{}, nil
	}
	requests, period, _ := strings.Cut(text, "/")
	r := Rate{}
	var err, periodErr error
	r.Requests, err = strconv.Atoi(requests)
	r.Period, periodErr = time.ParseDuration(period)
	// The header tells the period in whole seconds.
	if err != nil || periodErr != nil || r.Requests < 1 || r.Period < time.Second || r.Period%time.Second != 0 {
		return Rate{}, fmt.Errorf("%q is not a rate such as 600/1m, in whole seconds, or 0 for none", text)
	}
	return r, nil
}

// Off reports whether the rate limits nothing.
func (r Rate) Off() bool { return r.Requests == 0 }

// String returns the rate as the header RateLimit-Policy has it, for example 600;w=60.
func (r Rate) String() string { return fmt.Sprintf("%d;w=%d", r.Requests, int(r.Period.Seconds())) }
