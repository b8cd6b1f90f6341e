package es

import (
	"encoding/json"
	"hash/fnv"
	"strings"
	"time"
)

// Event is one recorded fact: a row of the log.
type Event struct {
	// Position is the event's place in the whole log: 1, 2, 3, ... in commit order, without gaps.
	Position int64
	// Stream is the name of the stream, "<category>-<id>".
	Stream string
	// Version is the event's place in its stream, from 1.
	Version int64
	// Type is the stored name, for example "order.placed".
	Type string
	// Data is the fact as JSON, as it was stored.
	Data json.RawMessage
	// Metadata is a [Metadata] as JSON, as it was stored.
	Metadata json.RawMessage
	// OccurredAt is when the fact happened; for imported history long before it was recorded.
	OccurredAt time.Time
	// RecordedAt never decreases with the position.
	RecordedAt time.Time
	// Partition is PartitionOf(Stream, the log's number of partitions).
	Partition int
	// Ordinal is the event's place among the events of its partition, from 1: whoever reads one
	// partition sees a hole by it.
	Ordinal int64
	// Fact is the decoded Data, or nil where the type is not known to this binary or not decoded yet.
	Fact any
}

// Category returns what stands before the first hyphen of the stream's name.
func (e *Event) Category() string { return CategoryOf(e.Stream) }

// CategoryOf returns the category of a stream's name: what stands before its first hyphen.
func CategoryOf(stream string) string {
	category, _, _ := strings.Cut(stream, "-")
	return category
}

// IDOf returns the id in a stream's name: what stands behind its first hyphen.
func IDOf(stream string) string {
	_, id, _ := strings.Cut(stream, "-")
	return id
}

// PartitionOf returns the partition of a stream among n: the 64-bit FNV-1a hash of its name, modulo n.
// The function is part of the stored format: it must never change.
func PartitionOf(stream string, n int) int {
	h := fnv.New64a()
	h.Write([]byte(stream))
	return int(h.Sum64() % uint64(n))
}

// Metadata says where an event came from. It holds no personal data.
type Metadata struct {
	// Correlation is shared by all that one request set off.
	Correlation string `json:"correlation,omitempty"`
	// Causation is the position of the event that a process reacted to, as digits.
	Causation string `json:"causation,omitempty"`
	// Actor is who asked: "guest", "staff", "import", or the name of a process.
	Actor string `json:"actor,omitempty"`
	// Trace is the W3C traceparent of the request.
	Trace string `json:"trace,omitempty"`
}

// Log is what stays the same for the life of a log.
type Log struct {
	// ID is the log's identity. Copies of the log carry it.
	ID string
	// Epoch is raised by a failover or a restore, after which positions may name other events than before.
	Epoch int
	// Partitions is the number of partitions, fixed when the log was created.
	Partitions int
	// Currency is the shop's currency, ISO 4217.
	Currency string
	// TimeZone is the shop's time zone, an IANA name.
	TimeZone string
}
