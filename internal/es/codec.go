package es

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"unsafe"

	"github.com/bytedance/sonic"
)

// decoder reads stored events. Texts of a fact share the memory of its event's data, which nobody changes once it is read.
var decoder = sonic.Config{CaseSensitive: true, ValidateString: true}.Froze()

// Fact is what a stream's events tell, a struct of the domain.
type Fact interface{ EventType() string }

// Codec turns facts into stored data and back.
type Codec struct {
	types     map[string]*factType
	names     map[string]string
	upcasters map[string]upcaster // by the old version's stored name
}

// factType is the struct of a stored type.
type factType struct {
	reflect.Type
	// targets are structs to decode into: the fact is a copy, and a target that is used again saves every second allocation.
	targets sync.Pool // of *target
}

type target struct {
	pointer any
	fact    reflect.Value
}

func newFactType(t reflect.Type) *factType {
	f := &factType{Type: t}
	f.targets.New = func() any {
		v := reflect.New(t)
		return &target{pointer: v.Interface(), fact: v.Elem()}
	}
	return f
}

// decode returns the fact that data tells.
func (f *factType) decode(data []byte) (any, error) {
	to := f.targets.Get().(*target)
	defer f.targets.Put(to)
	defer to.fact.SetZero() // what the fact refers to is not to be decoded into again
	// Decoding is what a rebuild spends most of its time on; this takes a fifth as long as encoding/json.
	if err := decoder.UnmarshalFromString(unsafe.String(unsafe.SliceData(data), len(data)), to.pointer); err != nil {
		return nil, err
	}
	return to.fact.Interface(), nil
}

// upcaster turns a fact of an old version into one of the next.
type upcaster struct {
	up   func(any) Fact
	next string // its stored name
}

// NewCodec returns a codec for the given facts, one value of each type. It panics when two share a stored name.
func NewCodec(facts ...any) *Codec {
	c := &Codec{types: make(map[string]*factType, len(facts)), names: make(map[string]string, len(facts)), upcasters: make(map[string]upcaster)}
	for _, f := range facts {
		c.add(f.(Fact))
	}
	return c
}

func (c *Codec) add(f Fact) {
	name := f.EventType()
	if other, taken := c.types[name]; taken {
		panic(fmt.Sprintf("es: %T and %s share the stored name %q", f, other.Type, name))
	}
	c.types[name] = newFactType(reflect.TypeOf(f))
	c.names[name] = name
}

// Upcast has the codec decode stored events of an old version, Old, as the next version, New: "order.placed" as
// "order.placed.v2". New may be old itself and have an upcaster of its own. Nothing stored is rewritten, and an old
// version is no longer written. It panics when the stored name of Old is taken.
func Upcast[Old, New Fact](c *Codec, up func(Old) New) {
	var old Old
	var next New
	c.add(old)
	c.upcasters[old.EventType()] = upcaster{up: func(fact any) Fact { return up(fact.(Old)) }, next: next.EventType()}
}

// Family returns what the versions of an event type have in common: "order.placed" of "order.placed.v2".
func Family(eventType string) string {
	at := strings.LastIndex(eventType, ".v")
	if at < 0 || at+2 == len(eventType) || strings.Trim(eventType[at+2:], "0123456789") != "" {
		return eventType
	}
	return eventType[:at]
}

// UnknownTypeError says that this binary has no struct for a stored event.
type UnknownTypeError struct{ Type string }

func (e *UnknownTypeError) Error() string {
	return fmt.Sprintf("event type %q is not known to this version of the program", e.Type)
}

// Knows reports whether events of the type can be decoded.
func (c *Codec) Knows(eventType string) bool {
	_, ok := c.types[eventType]
	return ok
}

// Current returns, by the stored names that the codec knows, the types as which their events are decoded.
func (c *Codec) Current() map[string]string {
	current := make(map[string]string, len(c.types))
	for name := range c.types {
		current[name] = name
		for u, old := c.upcasters[name]; old; u, old = c.upcasters[u.next] {
			current[name] = u.next
		}
	}
	return current
}

// Name returns a stored name as a string, which is the same one every time for those that the codec knows.
func (c *Codec) Name(stored []byte) string {
	if name, ok := c.names[string(stored)]; ok {
		return name
	}
	return string(stored)
}

// Decode sets e.Fact unless it is set. It returns an [UnknownTypeError] or what is wrong with the data.
func (c *Codec) Decode(e *Event) error {
	if e.Fact != nil {
		return nil
	}
	t, ok := c.types[e.Type]
	if !ok {
		return &UnknownTypeError{Type: e.Type}
	}
	fact, err := t.decode(e.Data)
	if err != nil {
		return fmt.Errorf("es: decoding %s at position %d: %w", e.Type, e.Position, err)
	}
	e.Fact = fact
	for u, old := c.upcasters[e.Type]; old; u, old = c.upcasters[u.next] {
		e.Fact = u.up(e.Fact)
	}
	return nil
}

// Encode returns the stored name and data of a fact.
func (c *Codec) Encode(fact any) (eventType string, data []byte, err error) {
	f, ok := fact.(Fact)
	if !ok {
		return "", nil, fmt.Errorf("es: %T is not an event", fact)
	}
	eventType = f.EventType()
	if _, old := c.upcasters[eventType]; old || !c.Knows(eventType) {
		return "", nil, &UnknownTypeError{Type: eventType}
	}
	if data, err = json.Marshal(fact); err != nil {
		return "", nil, fmt.Errorf("es: encoding %s: %w", eventType, err)
	}
	return eventType, data, nil
}

// TypesOf returns the stored names of facts.
func TypesOf[F Fact](facts []F) []string {
	types := make([]string, len(facts))
	for i, f := range facts {
		types[i] = f.EventType()
	}
	return types
}
