// Package projections holds the read side: a package a read model, with its fold, its tables and its queries.
package projections
