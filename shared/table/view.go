package table

// View reads one consistent state. Implementations: the visible state
// (Store), a Snapshot of it, and an Overlay of writes over another View.
type View interface {
	// Get returns the value of key; ok is false when it is absent. The value
	// belongs to the caller and stays valid.
	Get(key []byte) (value []byte, ok bool, err error)
	// Iter walks [lower, upper) in key order, or from its end when reverse.
	// The caller closes the Iterator.
	Iter(lower, upper []byte, reverse bool) (Iterator, error)
}

// Iterator walks pairs in one direction. Key and Value are valid until the
// next call of Next; Next returns false at the end and on an error.
type Iterator interface {
	Next() bool
	Key() []byte
	Value() []byte
	Err() error
	Close() error
}
