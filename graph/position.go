package graph

import (
	"net/http"
	"strings"

	"github.com/millrace/millrace/graph/model"
)

// positionHeader carries a position both ways: that of a mutation's effect, and the one that a query must show.
const positionHeader = "Millrace-Position"

// wanted returns the highest position that a request sends back, in its headers or its extensions; 0 for none. Several headers may
// have become one on their way, with commas between the values.
func wanted(header http.Header, extensions map[string]any) (int64, error) {
	var highest int64
	for _, line := range header.Values(positionHeader) {
		for text := range strings.SplitSeq(line, ",") {
			p, err := model.ParsePosition(strings.TrimSpace(text))
			if err != nil {
				return 0, problem(BadUserInput, "%s: %s", positionHeader, err)
			}
			highest = max(highest, p)
		}
	}
	if v, ok := extensions["position"]; ok && v != nil {
		p, err := model.UnmarshalPosition(v)
		if err != nil {
			return 0, problem(BadUserInput, "extensions.position: %s", err)
		}
		highest = max(highest, p)
	}
	return highest, nil
}
