// Package arrows holds the test that keeps packages from importing what their room has no business with.
package arrows
