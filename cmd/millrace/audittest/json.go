package audittest

import (
	"bytes"
	"encoding/json"
	"time"
)

// object is a JSON object whose numbers are as they were written.
type object map[string]any

func decode(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// decodeObject returns nil for what is no object.
func decodeObject(text []byte) object {
	v, err := decode(text)
	if m, ok := v.(map[string]any); ok && err == nil {
		return m
	}
	return nil
}

// canonical is the one spelling of a JSON value: equal texts mean equal values.
func canonical(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	again, err := decode(text)
	if err != nil {
		return err.Error()
	}
	if text, err = json.Marshal(again); err != nil {
		return err.Error()
	}
	return string(text)
}

func (o object) text(key string) string {
	s, _ := o[key].(string)
	return s
}

// number is 0 where there is none.
func (o object) number(key string) int64 {
	switch n := o[key].(type) {
	case json.Number:
		i, _ := n.Int64()
		return i
	case int64:
		return n
	}
	return 0
}

func (o object) object(key string) object {
	switch m := o[key].(type) {
	case map[string]any:
		return m
	case object:
		return m
	}
	return nil
}

func (o object) objects(key string) []object {
	list, _ := o[key].([]any)
	all := make([]object, 0, len(list))
	for _, v := range list {
		if m, ok := v.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}

func (o object) with(key string, v any) object {
	next := make(object, len(o)+1)
	for k, old := range o {
		next[k] = old
	}
	next[key] = v
	return next
}

// put sets a member that documents have only where it is not empty.
func (o object) put(key string, v any) {
	switch v {
	case "", int64(0):
		delete(o, key)
	default:
		o[key] = v
	}
}

// instant is how PostgreSQL writes a time into JSON.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999999+00:00") }

// instantOf is instant of a time in a document, null for none.
func instantOf(text string) any {
	if text == "" {
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return "no time: " + text
	}
	return instant(t)
}
