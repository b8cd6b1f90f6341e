// Package model holds what GraphQL types are made of where the domain has no type of their shape.
//
// A product, a variant, a cart, an order and their lines embed the states of the domain: a field that a state has needs the
// schema and nothing here. What needs a read model or a secret is not here but in the resolvers (package graph).
package model
