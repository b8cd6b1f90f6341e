// Package personal holds data about a person that can be read only while that person's key exists.
//
// The domain moves such data about without ever seeing it: who has the keys seals it before it enters an event and opens
// it when answering. Once the key is gone, what is left is noise.
package personal

// Sealed is data about a person, encrypted under that person's key.
type Sealed struct {
	// Key names the key of the person whom the data is about.
	Key string `json:"key"`
	// Box is the encrypted data with all that opening it needs except the key.
	Box []byte `json:"box"`
}

// IsZero reports whether there is no data at all, which is not the same as data whose key is gone.
func (s Sealed) IsZero() bool { return s.Key == "" && len(s.Box) == 0 }
