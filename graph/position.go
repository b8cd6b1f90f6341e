package graph

import (
	"net/http"

	"github.com/millrace/millrace/graph/model"
)

// positionHeader carries a position both ways: that of a mutation's effect, and the one that a query must show.
const positionHeader = "Millrace-Position"

// wanted returns the highest position that a request sends back, in its header or its extensions; 0 for none.
func wanted(header http.Header, extensions map[string]any) (int64, error) {
	var highest int64
	for _, text := range header.Values(positionHeader) {
		p, err := model.ParsePosition(text)
		if err != nil {
			return 0, problem(BadUserInput, "%s: %s", positionHeader, err)
		}
		highest = max(highest, p)
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
