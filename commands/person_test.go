package commands_test

import (
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/domain/person"
)

func TestPersonForget(t *testing.T) {
	k, number, _ := bought(t)
	stream := "person-" + k.App.SubjectOf("ada@example.org")
	contact := func(number string) error {
		_, err := k.App.OpenContact(ctx, commandtest.State(k, commands.Orders.Stream(number)).Contact)
		return err
	}
	forget := func(email string) error {
		_, err := k.App.PersonForget(ctx, commands.PersonForget{Email: email})
		return err
	}
	if err := contact(number); err != nil {
		t.Fatal(err)
	}
	wantRefusals(t, k, forget("bob@example.org"), "NOT_FOUND input.email")

	if err := forget(" Ada@Example.org"); err != nil {
		t.Fatal(err)
	}
	k.Then(entry(stream, person.Forgotten{}))
	if err := contact(number); !commands.IsForgotten(err) {
		t.Fatalf("the contact is still there: %v", err)
	}
	if err := forget("ada@example.org"); err != nil {
		t.Fatalf("forgetting again: %v", err)
	}
	k.Then()
}
