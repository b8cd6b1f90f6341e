// Package graphiql serves a page to try a GraphQL API from, which needs nothing from anywhere else.
//
// What it is made of lies in assets/, compressed, as its makers published it; see README.md for versions and licences.
package graphiql

import (
	"bytes"
	"compress/gzip"
	"embed"
	"html/template"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed assets/*.gz page.html page.css page.js
var files embed.FS

// policy lets the page load and reach nothing but this server. GraphiQL's dialogs and editor write styles of their own
// into the page, and its fonts are in its style sheet.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src data:; img-src 'self' data:; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Handler serves the page at / and its parts below /graphiql/; the API is at endpoint, on the same server.
func Handler(endpoint string) http.Handler {
	mux := http.NewServeMux()
	page := render(endpoint)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-cache")
		send(w, "text/html; charset=utf-8", page)
	})
	mux.HandleFunc("GET /graphiql/{file}", serveFile)
	return mux
}

func render(endpoint string) []byte {
	var b bytes.Buffer
	t := template.Must(template.ParseFS(files, "page.html"))
	if err := t.Execute(&b, endpoint); err != nil {
		panic(err) // the template is part of the program
	}
	return b.Bytes()
}

func serveFile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	kind, ok := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}[path.Ext(name)]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Vary", "Accept-Encoding")
	if plain, err := files.ReadFile(name); err == nil {
		send(w, kind, plain)
		return
	}
	packed, err := files.ReadFile("assets/" + name + ".gz")
	if err != nil {
		http.NotFound(w, r)
		return
	}
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		send(w, kind, packed)
		return
	}
	plain, err := unpack(packed)
	if err != nil {
		http.Error(w, "the page's parts are damaged", http.StatusInternalServerError)
		return
	}
	send(w, kind, plain)
}

func unpack(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func send(w http.ResponseWriter, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // a client that has gone needs no answer
}
