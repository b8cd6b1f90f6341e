package graph

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// malformed is a request that is no GraphQL request at all: its status counts whatever the client accepts.
type malformed struct {
	status  int
	message string
}

func (m *malformed) Error() string { return m.message }

// readPost reads the body of a POST.
func (h *Handler) readPost(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if err := checkContentType(r.Header); err != nil {
		return nil, err
	}
	limit := h.options.Limits.BodyBytes
	if r.ContentLength > limit {
		return nil, tooLarge("the body has %d bytes; at most %d are allowed", r.ContentLength, limit)
	}
	body, err := readWhole(http.MaxBytesReader(w, r.Body, limit), r.ContentLength)
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge("the body has more than %d bytes; at most %d are allowed", limit, limit)
	case err != nil:
		return nil, &malformed{http.StatusBadRequest, "the body could not be read to its end"}
	}
	return body, nil
}

// atOnce is up to what length a body is believed to have it: memory for more is taken as it comes.
const atOnce = 8 << 10

// readWhole reads a body that says how long it is, or does not.
func readWhole(from io.Reader, length int64) ([]byte, error) {
	if length <= 0 || length > atOnce {
		return io.ReadAll(from)
	}
	body := make([]byte, length)
	_, err := io.ReadFull(from, body)
	return body, err
}

func tooLarge(format string, args ...any) error {
	return &malformed{http.StatusRequestEntityTooLarge, problem(BadUserInput, format, args...).Message}
}

func checkContentType(header http.Header) error {
	unsupported := func(message string) error { return &malformed{http.StatusUnsupportedMediaType, message} }
	if header.Get("Content-Encoding") != "" {
		return unsupported("a body with a Content-Encoding is not read")
	}
	const wanted = "Content-Type must be application/json"
	value := header.Get("Content-Type")
	if value == "application/json" { // what nearly all clients send, in the cheapest way
		return nil
	}
	if value == "" {
		return unsupported(wanted + "; there is none")
	}
	media, parameters, err := mime.ParseMediaType(value)
	if err != nil || media != "application/json" {
		return unsupported(wanted)
	}
	if charset, ok := parameters["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return unsupported("the charset must be utf-8")
	}
	return nil
}

// parseRequest reads {"query": ..., "operationName": ..., "variables": ..., "extensions": ...}; other keys are ignored,
// as the specification asks.
func parseRequest(body []byte, what string) (request, error) {
	bad := func(message string) (request, error) {
		return request{}, &malformed{http.StatusBadRequest, what + " " + message}
	}
	if trimmed := bytes.TrimLeft(body, " \t\r\n"); len(trimmed) == 0 {
		return bad("is empty; it must be a JSON object with a query")
	} else if trimmed[0] == '[' {
		var batch []json.RawMessage
		if json.Unmarshal(body, &batch) != nil {
			return bad("is not valid JSON")
		}
		return request{}, &malformed{http.StatusBadRequest,
			problem(BadUserInput, "%s is a batch of %d operations; at most 1 is allowed, sent as an object", what, len(batch)).Message}
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
			return bad("must be a JSON object")
		}
		return bad("is not valid JSON")
	}
	var in request
	for _, f := range []struct {
		name, kind string
		into       any
	}{
		{"query", "a string", &in.query},
		{"operationName", "a string", &in.operationName},
		{"variables", "an object", &in.variables},
		{"extensions", "an object", &in.extensions},
	} {
		if raw, ok := fields[f.name]; ok {
			if err := unmarshalNumbers(raw, f.into); err != nil {
				return bad("has a key " + f.name + " that is not " + f.kind)
			}
		}
	}
	if query, ok := fields["query"]; (!ok || string(query) == "null") && in.extensions["persistedQuery"] == nil {
		return bad("has no query")
	}
	return in, nil
}

// unmarshalNumbers keeps numbers as they are written: a variable may be larger than a float holds exactly.
func unmarshalNumbers(raw []byte, into any) error {
	if text, ok := into.(*string); ok {
		return json.Unmarshal(raw, text) // without a decoder's buffer
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(into)
}

// parseGet reads the parameters of a GET.
func parseGet(query string) (request, error) {
	bad := func(message string) (request, error) {
		return request{}, &malformed{http.StatusBadRequest, message}
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return bad("the parameters of the address cannot be read")
	}
	in := request{query: values.Get("query"), operationName: values.Get("operationName"), readOnly: true}
	for name, into := range map[string]*map[string]any{"variables": &in.variables, "extensions": &in.extensions} {
		if text := values.Get(name); text != "" {
			if err := unmarshalNumbers([]byte(text), into); err != nil {
				return bad("the parameter " + name + " is not a JSON object")
			}
		}
	}
	if !values.Has("query") && in.extensions["persistedQuery"] == nil {
		return bad("the address has no parameter query")
	}
	return in, nil
}
