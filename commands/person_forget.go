package commands

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/domain/person"
	"github.com/millrace/millrace/internal/es"
)

// PersonForget has what is personal about somebody made unreadable.
type PersonForget struct {
	// Email is the address, in whatever case.
	Email string
}

// PersonForget answers with the position of the event that names the person's key. After that the key is deleted: nobody can read any more, in the log, in read
// models or in backups of either, what was sealed under it. An error that comes after the event leaves the key; asking again deletes it. Refusals:
// rule.NotFound at input, email for somebody of whom nothing was ever sealed.
func (a *App) PersonForget(ctx context.Context, in PersonForget) (position int64, err error) {
	subject := a.SubjectOf(in.Email)
	key, err := a.vault.KeyOf(ctx, subject)
	if err != nil {
		return 0, fmt.Errorf("commands: looking a person up: %w", err)
	}
	stream := Persons.Stream(subject)
	answer := newShown(Persons)
	position, err = a.execute(ctx, es.Command{
		Name:    "person.forget",
		Streams: []string{stream.Name()},
		Decide: func(d *es.Decision) error {
			state, err := es.State(d, stream)
			if err != nil {
				return err
			}
			events, err := person.Forget{Key: key}.Decide(state)
			if err != nil {
				return at(err, "input")
			}
			if len(events) > 0 {
				state = es.Append(d, stream, events...)
			}
			answer.set(stream, state)
			return nil
		},
	}, in, answer)
	if err != nil {
		return 0, err
	}
	// A repetition deletes the key that it did the first time, and not the one of somebody who has come back.
	if err := a.vault.Forget(ctx, subject, answer.state.Forgotten); err != nil {
		return 0, fmt.Errorf("commands: deleting a person's key: %w", err)
	}
	return position, nil
}
