package archive

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"originchain/shared/lsn"
)

// span is a run of frames that the archive has; stamp is that of the last one, in
// microseconds, 0 where it is not known.
type span struct {
	from, to lsn.LSN
	stamp    int64
}

// run is what the archive has without a hole from some place on. What lies behind a
// hole waits until the hole is filled: only the contiguous prefix counts.
type run struct {
	to    lsn.LSN
	stamp int64
	ahead []span // by from
}

func (r *run) add(s span) {
	i, _ := slices.BinarySearchFunc(r.ahead, s.from, func(x span, from lsn.LSN) int { return cmp.Compare(x.from, from) })
	r.ahead = slices.Insert(r.ahead, i, s)
	n := 0
	for ; n < len(r.ahead) && r.ahead[n].from <= r.to+1; n++ {
		if r.ahead[n].to > r.to {
			r.to, r.stamp = r.ahead[n].to, r.ahead[n].stamp
		}
	}
	r.ahead = slices.Delete(r.ahead, 0, n)
}

// maxSightings bounds how many moments are kept of when frames became durable.
const maxSightings = 512

// sighting says that the frames up to lsn, and above the sighting before, were
// durable by a moment.
type sighting struct {
	lsn lsn.LSN
	at  time.Time
}

// progress is how far the archive is behind the log. Ages are counted by the
// monotonic clock, from when the shipper saw the frames durable; for what was durable
// before it began, from the stamp of the segment's last frame.
type progress struct {
	mu sync.Mutex
	// segments is what is there in sealed segments, all in whatever form.
	segments, all run
	seen          []sighting
	// moved is closed at the next change; nil while nobody waits for one.
	moved chan struct{}
}

// awaited is closed at the next change.
func (p *progress) awaited() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.moved == nil {
		p.moved = make(chan struct{})
	}
	return p.moved
}

// changed wakes who waits.
func (p *progress) changed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake()
}

// wake is changed for whoever holds mu.
func (p *progress) wake() {
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// begin sets where the node's log begins. When frames became durable stays known.
func (p *progress) begin(at lsn.LSN, stamp int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.segments, p.all = run{to: at, stamp: stamp}, run{to: at, stamp: stamp}
	p.forget()
}

// recall adds sightings, by LSN, of frames that were durable before the shipper was
// there to see them.
func (p *progress) recall(list []sighting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, list...)
	slices.SortStableFunc(p.seen, func(x, y sighting) int { return cmp.Compare(x.lsn, y.lsn) })
	for i := len(p.seen) - 2; i >= 0; i-- {
		if after := p.seen[i+1].at; after.Before(p.seen[i].at) {
			p.seen[i].at = after // what stands below was durable by then, too
		}
	}
	p.forget()
	for len(p.seen) > maxSightings {
		p.thin()
	}
}

func (p *progress) addSegment(s span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.segments.add(s)
	p.all.add(s)
	p.forget()
	p.wake()
}

func (p *progress) addPart(s span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all.add(s)
	p.wake()
}

// forget drops the sightings that no age needs any more.
func (p *progress) forget() {
	i := 0
	for ; i < len(p.seen) && p.seen[i].lsn <= p.segments.to; i++ {
	}
	p.seen = slices.Delete(p.seen, 0, i)
}

// sight notes that frames up to durable are durable.
func (p *progress) sight(durable lsn.LSN, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.segments.to
	if n := len(p.seen); n > 0 {
		last = p.seen[n-1].lsn
	}
	if durable <= last {
		return
	}
	if p.seen = append(p.seen, sighting{durable, now}); len(p.seen) > maxSightings {
		p.thin()
	}
}

// thin halves the sightings. Of two neighbours the earlier moment stays with the later
// frame: an age is never told too low.
func (p *progress) thin() {
	thin := p.seen[:0]
	for i := 0; i+1 < len(p.seen); i += 2 {
		thin = append(thin, sighting{p.seen[i+1].lsn, p.seen[i].at})
	}
	if len(p.seen)%2 == 1 {
		thin = append(thin, p.seen[len(p.seen)-1])
	}
	p.seen = thin
}

// leastAge is that of a frame which is seen for the first time: 0 says that there is none.
const leastAge = time.Microsecond

// age is how long the first frame above to has been durable; 0 if, and only if, none is.
func (p *progress) age(to lsn.LSN, now time.Time) time.Duration {
	for _, s := range p.seen {
		if s.lsn > to {
			return max(leastAge, now.Sub(s.at))
		}
	}
	return 0
}

// reached tells how far segments and all have come.
func (p *progress) reached() (segments, all run) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return run{to: p.segments.to, stamp: p.segments.stamp}, run{to: p.all.to, stamp: p.all.stamp}
}

// ages are those of what segments, and of what all together, lack.
func (p *progress) ages(now time.Time) (segments, all time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.age(p.segments.to, now), p.age(p.all.to, now)
}
