package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/millrace/millrace/domain/personal"
	"github.com/millrace/millrace/internal/es"
)

// Data returns the event's data as JSON, with what is personal in it opened: null where the person has been forgotten.
func (r eventResolver) Data(ctx context.Context, e *es.Event) (string, error) {
	if !maySeal(e) {
		return string(e.Data), nil
	}
	data, err := decode(e)
	if err != nil {
		return "", err
	}
	l := &callFrom(ctx).loaders
	shown, err := replaceSealed(data, func(s personal.Sealed) (any, error) {
		plain, err := l.open(ctx, s)
		if err != nil || plain == nil {
			return nil, err
		}
		if json.Valid(plain) {
			return json.RawMessage(plain), nil
		}
		return string(plain), nil
	})
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(shown)
	if err != nil {
		return "", fmt.Errorf("graph: encoding the data at position %d: %w", e.Position, err)
	}
	return string(text), nil
}

// announceSealed says that what is sealed in the event may be shown.
func announceSealed(ctx context.Context, e *es.Event) {
	if !maySeal(e) {
		return
	}
	data, err := decode(e)
	if err != nil {
		return // showing it will say so
	}
	_, _ = replaceSealed(data, func(s personal.Sealed) (any, error) {
		callFrom(ctx).loaders.sealed.announce(sealOf(s))
		return nil, nil
	})
}

// maySeal is false for most events, which then need not be taken apart.
func maySeal(e *es.Event) bool { return bytes.Contains(e.Data, []byte(`"box"`)) }

func decode(e *es.Event) (data any, err error) {
	if err := unmarshalNumbers(e.Data, &data); err != nil {
		return nil, fmt.Errorf("graph: decoding the data at position %d: %w", e.Position, err)
	}
	return data, nil
}

// replaceSealed returns data with every sealed value in it replaced: an object with the keys "key" and "box" and no other.
func replaceSealed(data any, by func(personal.Sealed) (any, error)) (any, error) {
	var err error
	switch d := data.(type) {
	case []any:
		for i := range d {
			if d[i], err = replaceSealed(d[i], by); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		if s, ok := sealedIn(d); ok {
			return by(s)
		}
		for k := range d {
			if d[k], err = replaceSealed(d[k], by); err != nil {
				return nil, err
			}
		}
	}
	return data, nil
}

func sealedIn(object map[string]any) (s personal.Sealed, ok bool) {
	key, hasKey := object["key"].(string)
	box, hasBox := object["box"].(string)
	if !hasKey || !hasBox || len(object) != 2 {
		return s, false
	}
	text, err := json.Marshal(map[string]string{"key": key, "box": box})
	if err != nil {
		return s, false
	}
	return s, json.Unmarshal(text, &s) == nil
}
