package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// apiProcess is a "millrace api" of a shop, and what speaks to it.
type apiProcess struct {
	*process
	client     *http.Client
	staffToken string
}

// requestTimeout bounds a request far from how long it should take.
const requestTimeout = 30 * time.Second

// startAPIs starts api processes, each on a port of its own, on the servers of a shop. The shop's own serves nobody meanwhile: its process
// relays, keeps the read models, and takes payments.
func (l *lab) startAPIs(ctx context.Context, s *shop, n int) ([]*apiProcess, error) {
	l.say("starting %s", many(n, "api process"))
	apis := make([]*apiProcess, n)
	starting, ctx := errgroup.WithContext(ctx)
	for i := range apis {
		starting.Go(func() error {
			p, err := startProcess(ctx, l.newDir(fmt.Sprintf("api-%d.log", i+1)), func(running context.Context) *exec.Cmd {
				return s.program(running, "api", "--addr", "127.0.0.1:0")
			})
			if err != nil {
				return err
			}
			apis[i] = &apiProcess{process: p, client: newHTTPClient(), staffToken: s.staffToken}
			return apis[i].awaitReady(ctx)
		})
	}
	if err := starting.Wait(); err != nil {
		for _, a := range apis {
			if a != nil {
				err = errors.Join(err, a.stop())
			}
		}
		return nil, err
	}
	return apis, nil
}

// newHTTPClient returns a client that keeps the connection of each of its callers.
func newHTTPClient() *http.Client {
	return &http.Client{
		Timeout: requestTimeout,
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 1 << 14, IdleConnTimeout: requestTimeout, DisableCompression: true, // compressing costs both sides what the shop is to have
		},
	}
}

func (a *apiProcess) stop() error {
	a.client.CloseIdleConnections()
	return a.process.stop()
}

func (a *apiProcess) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, errors.New("the api was not ready in time"))
	defer cancel()
	url := strings.TrimSuffix(a.graphql, "/graphql") + "/readyz"
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return fmt.Errorf("bench: asking whether an api is ready: %w", err)
		}
		if response, err := a.client.Do(r); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		if err := wait(ctx, memoryInterval); err != nil {
			return fmt.Errorf("bench: %w", err)
		}
	}
}

// caller is who sends a request, and from which position on it reads.
type caller struct{ bearer, position string }

// anybody is a caller without credentials.
var anybody = caller{}

func (a *apiProcess) staff() caller { return caller{bearer: a.staffToken} }

// requestError is an answer that is none: what the API says is wrong.
type requestError struct {
	status        int
	code, message string
	retryAfter    time.Duration
}

func (e *requestError) Error() string {
	return strings.Trim(fmt.Sprintf("HTTP %d, %s: %s", e.status, e.code, e.message), ", :")
}

// patience is how long a buyer goes on asking an api that has no room.
const patience = 30 * time.Second

// insist asks as ask does, and again where the API says that it has no room now and that nothing has happened, after the pause that it asks
// for. It returns how often it asked again.
func (a *apiProcess) insist(ctx context.Context, who caller, query string, variables, into any) (again int, err error) {
	for began := time.Now(); ; again++ {
		err := a.ask(ctx, who, query, variables, into)
		var refusal *requestError
		if !errors.As(err, &refusal) || refusal.status != http.StatusServiceUnavailable || time.Since(began)+refusal.retryAfter > patience {
			return again, err
		}
		if err := wait(ctx, refusal.retryAfter); err != nil {
			return again, err
		}
	}
}

// ask sends a GraphQL request and decodes the data of the answer. An answer without is a [requestError].
func (a *apiProcess) ask(ctx context.Context, who caller, query string, variables, into any) error {
	body, err := json.Marshal(struct {
		Query     string `json:"query"`
		Variables any    `json:"variables,omitempty"`
	}{query, variables})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.graphql, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if who.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+who.bearer)
	}
	if who.position != "" {
		r.Header.Set("Millrace-Position", who.position)
	}
	response, err := a.client.Do(r)
	if err != nil {
		return err
	}
	content, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("reading an answer: %w", err)
	}
	var answer struct {
		Data   json.RawMessage `json:"data"`
		Errors []struct {
			Message    string `json:"message"`
			Extensions struct {
				Code string `json:"code"`
			} `json:"extensions"`
		} `json:"errors"`
	}
	err = json.Unmarshal(content, &answer)
	if err == nil && len(answer.Errors) == 0 && response.StatusCode == http.StatusOK {
		return json.Unmarshal(answer.Data, into)
	}
	wrong := &requestError{status: response.StatusCode, retryAfter: time.Second}
	if len(answer.Errors) > 0 {
		wrong.code, wrong.message = answer.Errors[0].Extensions.Code, answer.Errors[0].Message
	}
	if pause, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		wrong.retryAfter = time.Duration(pause) * time.Second
	}
	return wrong
}

// userErrors are the refusals in the answer to a mutation.
type userErrors []struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (u userErrors) err() error {
	if len(u) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s", u[0].Code, u[0].Message)
}

// createProduct creates a product that everybody sees, with no units, and returns its slug.
func (a *apiProcess) createProduct(ctx context.Context, title string, skus []string) (slug string, err error) {
	type variant struct {
		SKU   string `json:"sku"`
		Price string `json:"price"`
	}
	variants := make([]variant, len(skus))
	for i, sku := range skus {
		variants[i] = variant{sku, "12.50"}
	}
	var answer struct {
		ProductCreate struct {
			Product    *struct{ Slug string }
			UserErrors userErrors
		}
	}
	err = a.ask(ctx, a.staff(), `mutation($input: ProductCreateInput!) { productCreate(input: $input) {
		product { slug } userErrors { code message } } }`,
		map[string]any{"input": map[string]any{
			"title": title + " " + skus[0], "description": "While stocks last.", "status": "ACTIVE", "variants": variants,
		}}, &answer)
	if err == nil {
		err = answer.ProductCreate.UserErrors.err()
	}
	if err != nil {
		return "", fmt.Errorf("bench: creating what is to be sold: %w", err)
	}
	return answer.ProductCreate.Product.Slug, nil
}

// receive takes in units, and returns the position at which they are there.
func (a *apiProcess) receive(ctx context.Context, skus []string, units []int) (position string, err error) {
	var declared, fields strings.Builder
	variables := make(map[string]any, len(skus))
	for i, sku := range skus {
		fmt.Fprintf(&declared, "$i%d: StockReceiveInput! ", i)
		fmt.Fprintf(&fields, "r%d: stockReceive(input: $i%d) { userErrors { code message } position } ", i, i)
		variables[fmt.Sprintf("i%d", i)] = map[string]any{"sku": sku, "quantity": units[i]}
	}
	var answer map[string]struct {
		UserErrors userErrors
		Position   string
	}
	err = a.ask(ctx, a.staff(), fmt.Sprintf("mutation(%s) { %s }", declared.String(), fields.String()), variables, &answer)
	for _, received := range answer {
		err = errors.Join(err, received.UserErrors.err())
	}
	if err != nil {
		return "", fmt.Errorf("bench: taking in what is to be sold: %w", err)
	}
	return answer[fmt.Sprintf("r%d", len(skus)-1)].Position, nil
}

// awaitProduct returns once the read models show the product as of the position. A read waits for that itself, for a while.
func (a *apiProcess) awaitProduct(ctx context.Context, slug, position string) error {
	ctx, cancel := context.WithTimeout(ctx, caughtUpTimeout)
	defer cancel()
	for {
		var page productPage
		err := a.ask(ctx, caller{position: position}, productQuery, map[string]any{"slug": slug}, &page)
		if err == nil && page.Product == nil {
			return fmt.Errorf("bench: the product that is to be sold is not to be seen at position %s", position)
		}
		if err == nil {
			return nil
		}
		if waitErr := wait(ctx, memoryInterval); waitErr != nil {
			return fmt.Errorf("bench: looking at what is to be sold: %w", errors.Join(err, waitErr))
		}
	}
}
