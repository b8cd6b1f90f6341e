package graph

import (
	"context"
	"errors"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/graph/generated"
	"github.com/millrace/millrace/internal/es"
)

// resolver answers fields from the parts of Millrace. Its methods are in one file a module.
type resolver struct {
	Deps
	hub      *hub
	statuses *statusHub
	// translate turns an error into what a client may see.
	translate func(ctx context.Context, err error) *graphqlError
	// recovered logs a panic and turns it into an error.
	recovered func(ctx context.Context, cause any) error
}

type (
	queryResolver        struct{ *resolver }
	mutationResolver     struct{ *resolver }
	subscriptionResolver struct{ *resolver }
	variantResolver      struct{ *resolver }
	cartResolver         struct{ *resolver }
	orderResolver        struct{ *resolver }
	orderLineResolver    struct{ *resolver }
	eventResolver        struct{ *resolver }
)

// Query returns what resolves queries.
func (r *resolver) Query() generated.QueryResolver { return queryResolver{r} }

// Mutation returns what resolves mutations.
func (r *resolver) Mutation() generated.MutationResolver { return mutationResolver{r} }

// Subscription returns what resolves subscriptions.
func (r *resolver) Subscription() generated.SubscriptionResolver { return subscriptionResolver{r} }

// Variant returns what resolves the fields of a variant that it does not hold.
func (r *resolver) Variant() generated.VariantResolver { return variantResolver{r} }

// Cart returns what resolves the fields of a cart that it does not hold.
func (r *resolver) Cart() generated.CartResolver { return cartResolver{r} }

// Order returns what resolves the fields of an order that it does not hold.
func (r *resolver) Order() generated.OrderResolver { return orderResolver{r} }

// OrderLine returns what resolves the fields of a line that it does not hold.
func (r *resolver) OrderLine() generated.OrderLineResolver { return orderLineResolver{r} }

// Event returns what resolves the fields of an event that it does not hold.
func (r *resolver) Event() generated.EventResolver { return eventResolver{r} }

// ended takes down how a command ended. It returns the position of its effect, or what the caller can mend, or an error.
// Whatever is read afterwards is read anew; under a key, as it was at the position.
func ended(ctx context.Context, position int64, err error) (*int64, []*rule.Error, error) {
	c := callFrom(ctx)
	c.loaders.forget()
	c.asOf = 0
	if err == nil {
		if _, ok := commands.KeyFrom(ctx); ok {
			c.asOf = position
		}
		return c.effect(position), []*rule.Error{}, nil
	}
	if c.keyed && errors.Is(err, commands.ErrKeyUsed) {
		c.conflict()
		return nil, nil, errKeyUsed
	}
	c.outcome(errors.Is(err, es.ErrUnavailable) && !errors.Is(err, es.ErrOutcomeUnknown))
	broken, err := userErrors(err)
	return nil, broken, err
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
