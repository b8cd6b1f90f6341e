package commands_test

import (
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/domain/person"
)

func TestPersonForget(t *testing.T) {
	k, number, _ := bought(t)
	stream, subject := "person-"+k.App.SubjectOf("ada@example.org"), k.App.SubjectOf("ada@example.org")
	contact := func() error {
		_, err := k.App.OpenContact(ctx, commandtest.State(k, commands.Orders.Stream(number)).Contact)
		return err
	}
	forget := func(key, email string) error {
		_, err := k.App.PersonForget(commands.WithKey(ctx, commands.Key{Text: key}), commands.PersonForget{Email: email})
		return err
	}
	key := must[string](t)(k.KeyOf(ctx, subject))
	if err := contact(); err != nil {
		t.Fatal(err)
	}
	wantRefusals(t, k, forget("unknown", "bob@example.org"), "NOT_FOUND input.email")

	if err := forget("once", " Ada@Example.org"); err != nil {
		t.Fatal(err)
	}
	k.Then(entry(stream, person.Forgotten{Key: key}))
	if err := contact(); !commands.IsForgotten(err) {
		t.Fatalf("the contact is still there: %v", err)
	}
	if err := forget("again", "ada@example.org"); err != nil {
		t.Fatalf("forgetting again: %v", err)
	}
	k.Then()

	// She comes back, and a client repeats what it asked for before that.
	back, box, err := k.Seal(ctx, subject, []byte("1 Mill Lane"))
	if err != nil {
		t.Fatal(err)
	}
	for _, repeated := range []string{"once", "again"} {
		if err := forget(repeated, map[string]string{"once": " Ada@Example.org", "again": "ada@example.org"}[repeated]); err != nil {
			t.Fatal(err)
		}
	}
	if _, errs := k.OpenAll(ctx, []string{back}, [][]byte{box}); errs[0] != nil {
		t.Fatalf("a repetition has another effect than the first time: %v", errs[0])
	}
	k.Then()
	if err := forget("anew", "ada@example.org"); err != nil {
		t.Fatal(err)
	}
	k.Then(entry(stream, person.Forgotten{Key: back}))
}
