package archive

import (
	"sync"

	"originchain/shared/lsn"
)

// maxFacts bounds how many objects of a kind a Shipper remembers.
const maxFacts = 1000

// Facts are what the name of an object does not say.
type Facts struct {
	// Stamp is that of the last frame, in microseconds.
	Stamp int64
	// SHA256 is the one in a segment's footer: of all that stands before it, before it
	// was compressed. Zero for a part, which has none.
	SHA256 [32]byte
}

// facts remembers those of the objects that were shipped last.
type facts[K comparable] struct {
	mu    sync.Mutex
	known map[K]Facts
	order []K // a ring once it is full
	next  int
}

func (f *facts[K]) add(k K, x Facts) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known == nil {
		f.known = make(map[K]Facts)
	}
	if _, ok := f.known[k]; ok {
		return
	}
	f.known[k] = x
	if len(f.order) < maxFacts {
		f.order = append(f.order, k)
		return
	}
	delete(f.known, f.order[f.next])
	f.order[f.next] = k
	f.next = (f.next + 1) % maxFacts
}

func (f *facts[K]) get(k K) (Facts, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x, ok := f.known[k]
	return x, ok
}

// SegmentFacts tells what is remembered of a segment that this Shipper has shipped.
func (s *Shipper) SegmentFacts(k SegmentKey) (Facts, bool) { return s.segmentFacts.get(k) }

// PartFacts tells what is remembered of a part that this Shipper has shipped.
func (s *Shipper) PartFacts(k PartKey) (Facts, bool) { return s.partFacts.get(k) }

// Recoverable is the last frame of a line that can be restored to: all frames from it
// down to a checkpoint, or to LSN 1, are there. 0 if none can.
func (l *Line) Recoverable() (last lsn.LSN) {
	for i := range l.Checkpoints {
		last = max(last, l.Checkpoints[i].LSN)
	}
	for i := range l.Ranges {
		r := &l.Ranges[i]
		if r.From == 1 {
			last = max(last, r.To)
		}
		for j := range l.Checkpoints {
			if at := l.Checkpoints[j].LSN; at+1 >= r.From && at <= r.To {
				last = max(last, r.To)
			}
		}
	}
	return last
}
