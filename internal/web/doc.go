// Package web runs an HTTP server as every role of Millrace does: with limits on what a client may hold, health and
// metrics for those who watch it, and an end that balancers and clients can follow.
package web
