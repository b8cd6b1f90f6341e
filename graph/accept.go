package graph

import (
	"mime"
	"strconv"
	"strings"
)

// media is a form that answers are given in.
type media int

const (
	// mediaNone is nothing that this face can give.
	mediaNone media = iota
	// mediaJSON is application/json: whatever was understood is answered with 200.
	mediaJSON
	// mediaGraphQL is application/graphql-response+json: a request that cannot be run is answered with 4xx.
	mediaGraphQL
	// mediaEvents is text/event-stream.
	mediaEvents
)

func (m media) contentType() string {
	switch m {
	case mediaGraphQL:
		return "application/graphql-response+json; charset=utf-8"
	case mediaEvents:
		return "text/event-stream; charset=utf-8"
	default:
		return "application/json; charset=utf-8"
	}
}

// negotiate returns the form that the client likes best, the first of those that it likes alike. Without Accept, and for
// anything at all, it is application/json.
func negotiate(accept []string) media {
	header := strings.Join(accept, ",")
	switch header { // what most clients send, in the cheapest way
	case "", "*/*", "application/json":
		return mediaJSON
	case "application/graphql-response+json":
		return mediaGraphQL
	}
	if strings.TrimSpace(header) == "" {
		return mediaJSON
	}
	best, liked := mediaNone, 0.0
	for part := range strings.SplitSeq(header, ",") {
		name, parameters, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil {
			continue
		}
		var m media
		switch name {
		case "application/json", "application/*", "*/*":
			m = mediaJSON
		case "application/graphql-response+json":
			m = mediaGraphQL
		case "text/event-stream":
			m = mediaEvents
		default:
			continue
		}
		q := 1.0
		if text, ok := parameters["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		if q > liked {
			best, liked = m, q
		}
	}
	return best
}
