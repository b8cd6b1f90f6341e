package graph

import (
	"context"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/graph/model"
)

// PersonForget forgets a person.
func (r mutationResolver) PersonForget(ctx context.Context, in model.PersonForgetInput) (*model.PersonForgetPayload, error) {
	if err := staffOnly(ctx); err != nil {
		return nil, err
	}
	position, err := r.Commands.PersonForget(ctx, commands.PersonForget{Email: in.Email})
	at, broken, err := ended(ctx, position, err)
	if err != nil {
		return nil, err
	}
	return &model.PersonForgetPayload{UserErrors: broken, Position: at}, nil
}
