package archive

import (
	"context"
	"maps"
	"sync"

	"originchain/shared/object"
)

const (
	// maxKeptHeads bounds the heads of checkpoints that a Remembering archive keeps, of
	// about 500 bytes each, and maxKeptEpochs its epochs. What is beyond is read anew.
	maxKeptHeads  = 16_384
	maxKeptEpochs = 4096
)

// kept are documents that were read and found good, by their names and sizes. A document
// is created once and never changed; one of another size is another one. Only what the
// last listing showed is kept, so that what a purge or retention has removed is gone here
// as well, and is read again if it comes back.
type kept[K Key, D any] struct {
	most int

	mu   sync.Mutex
	docs map[named]D
}

// named is what stands for a document.
type named struct {
	key  string
	size int64
}

func nameOf[K Key](k Sized[K]) named { return named{k.Key.String(), k.Size} }

// read gives a document that is kept, or reads it and keeps it. A nil kept keeps nothing.
func (c *kept[K, D]) read(ctx context.Context, k Sized[K], read func(context.Context, Sized[K]) (D, error)) (D, error) {
	if c == nil {
		return read(ctx, k)
	}
	c.mu.Lock()
	d, ok := c.docs[nameOf(k)]
	c.mu.Unlock()
	if ok {
		return d, nil
	}
	d, err := read(ctx, k)
	if err != nil {
		return d, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.docs) < c.most {
		c.docs[nameOf(k)] = d
	}
	return d, nil
}

// only forgets what is not listed any more.
func (c *kept[K, D]) only(listed []Sized[K]) {
	if c == nil {
		return
	}
	there := make(map[named]bool, len(listed))
	for _, k := range listed {
		there[nameOf(k)] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.docs, func(k named, _ D) bool { return !there[k] })
}

// Remembering is New for who surveys an archive again and again, to show it: documents
// that were read once are not read again while they are listed. Whoever removes objects
// by what a survey says takes New, which sees a document that was damaged since.
func Remembering(store object.Store) *Archive {
	a := New(store)
	a.heads = &kept[CheckpointKey, Checkpoint]{most: maxKeptHeads, docs: make(map[named]Checkpoint)}
	a.epochs = &kept[EpochKey, Epoch]{most: maxKeptEpochs, docs: make(map[named]Epoch)}
	return a
}
