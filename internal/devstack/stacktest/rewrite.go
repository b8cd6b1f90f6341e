package stacktest

import (
	"encoding/json"
	"regexp"
	"strings"
	"sync"

	"github.com/Shopify/toxiproxy/v2/toxics"
)

// Rewrite replaces text in what clients send, wherever an expression matches: the way to break a promise that rests on what is sent. The
// replacement is padded with blanks to the length of what it replaces, and no longer than that. What the network happens to cut in two stays as it is. Heal
// ends it: a proxy that rewrites stands behind those that break.
func (p *Proxy) Rewrite(expression, replacement string) {
	p.t.Helper()
	registerRewrite()
	toxic, err := json.Marshal(map[string]any{
		"name": expression, "type": "rewrite", "stream": "upstream",
		"attributes": rewrite{Expression: expression, Replacement: replacement},
	})
	if err != nil {
		p.t.Fatalf("stacktest: rewriting: %v", err)
	}
	if _, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(string(toxic))); err != nil {
		p.t.Fatalf("stacktest: rewriting: %v", err)
	}
}

var registerRewrite = sync.OnceFunc(func() { toxics.Register("rewrite", new(rewrite)) })

// rewrite is a toxic.
type rewrite struct {
	Expression  string `json:"expression"`
	Replacement string `json:"replacement"`
}

// Pipe hands chunks on until the link closes or the toxics of the proxy change.
func (r *rewrite) Pipe(stub *toxics.ToxicStub) {
	expression := regexp.MustCompile(r.Expression)
	for {
		select {
		case <-stub.Interrupt:
			return
		case chunk := <-stub.Input:
			if chunk == nil {
				stub.Close()
				return
			}
			chunk.Data = expression.ReplaceAllFunc(chunk.Data, func(found []byte) []byte {
				return []byte(r.Replacement + strings.Repeat(" ", len(found)-len(r.Replacement)))
			})
			stub.Output <- chunk
		}
	}
}
