package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/wal"
)

// Bounds of a purge.
const (
	// MaxRedacted bounds the frames, intervals and objects of one record.
	MaxRedacted = 100_000
	// maxReasonBytes bounds what somebody wrote down as the reason.
	maxReasonBytes = 1000
	// MaxRewriteBytes bounds an object that is rewritten: it is made in memory.
	MaxRewriteBytes = 512 << 20
)

// Redaction is the record of a purge. Its creation is the moment at which the purge
// counts: from then on the rewritten objects are the archive's, and what they replace
// is erased. It holds no row, and no key of one.
type Redaction struct {
	Head
	ID string `json:"id"`
	// Plan is the plan that was confirmed.
	Plan   string    `json:"plan"`
	Actor  string    `json:"actor"`
	Reason string    `json:"reason"`
	Tenant ulid.ULID `json:"tenant"`
	Schema string    `json:"schema"`
	Time   time.Time `json:"time"`
	// Frames are those that were rewritten.
	Frames []RedactedFrame `json:"frames"`
	// Intervals are where the state lacks something, and what.
	Intervals []Interval `json:"intervals"`
	// Replaced are the objects that count no more.
	Replaced []Replaced `json:"replaced"`
	// Erased are further objects that are removed, files of checkpoints above all; their
	// names are never used again.
	Erased []string `json:"erased"`
}

// RedactedFrame is a frame whose body is what a purge has left of it.
type RedactedFrame struct {
	Epoch lsn.Epoch `json:"epoch"`
	LSN   lsn.LSN   `json:"lsn"`
	// Payload is the hash of the frame's salt and the body that was left.
	Payload lsn.Chain `json:"payload"`
}

// Interval is a run of frames of an epoch after each of which the state lacks the same
// pairs.
type Interval struct {
	Epoch lsn.Epoch `json:"epoch"`
	From  lsn.LSN   `json:"from_lsn"`
	To    lsn.LSN   `json:"to_lsn"`
	// Delta is the sum of the hashes of the pairs: what the digest lacks.
	Delta lsn.Digest `json:"delta"`
	// Counters are what the counters of a table or an index count too many.
	Counters []Share `json:"counters"`
}

// Share is a part of what a counter counts; table and index are those of its key.
type Share struct {
	Table   uint32     `json:"table"`
	Index   uint32     `json:"index"`
	Entries uint64     `json:"entries"`
	Bytes   uint64     `json:"bytes"`
	Sum     lsn.Digest `json:"sum"`
}

// Replaced is an object that a purge has replaced; New is "" for one that was dropped,
// because others lead to every point that it led to.
type Replaced struct {
	Old string `json:"old"`
	New string `json:"new,omitempty"`
}

// Key is the name of the record.
func (d *Redaction) Key() RedactionKey { return RedactionKey{d.ID} }

func (d *Redaction) check() error {
	if err := common(&d.Head, d.Time, d.ID, d.Actor, d.Schema, d.Plan); err != nil {
		return err
	}
	switch {
	case !d.Key().valid() || d.Plan == "" || d.Tenant.IsZero() || len(d.Reason) > maxReasonBytes:
		return errors.New("it is no record of a purge")
	case max(len(d.Frames), len(d.Intervals), len(d.Replaced), len(d.Erased)) > MaxRedacted:
		return fmt.Errorf("it has more than %d frames, intervals or objects", MaxRedacted)
	}
	for _, r := range d.Replaced {
		if err := checkReplaced(r); err != nil {
			return err
		}
	}
	for _, name := range d.Erased {
		if _, err := ParseKey(name); err != nil {
			return err
		}
	}
	for i := range d.Intervals {
		if x := &d.Intervals[i]; x.Epoch == 0 || x.From == 0 || x.To < x.From {
			return fmt.Errorf("LSN %d to %d of epoch %d is no interval", x.From, x.To, x.Epoch)
		}
	}
	return nil
}

func checkReplaced(r Replaced) error {
	old, err := ParseKey(r.Old)
	if err != nil || r.New == "" {
		return err
	}
	k, err := ParseKey(r.New)
	if err != nil {
		return err
	}
	if original(old) != original(k) || RewriteOf(k) <= RewriteOf(old) {
		return fmt.Errorf("%s does not replace %s", r.New, r.Old)
	}
	return nil
}

// RewriteOf is the number of a rewritten object, 0 for any other.
func RewriteOf(k Key) uint32 {
	switch k := k.(type) {
	case SegmentKey:
		return k.Rewrite
	case PartKey:
		return k.Rewrite
	case CheckpointKey:
		return k.Rewrite
	}
	return 0
}

// original is the key without the number of its rewrite.
func original(k Key) Key { return Rewritten(k, 0) }

// Rewritten is the key of the n-th rewrite of a segment, a part or a checkpoint.
func Rewritten(k Key, n uint32) Key {
	switch k := k.(type) {
	case SegmentKey:
		k.Rewrite = n
		return k
	case PartKey:
		k.Rewrite = n
		return k
	case CheckpointKey:
		k.Rewrite = n
		return k
	}
	return k
}

// forms says which form of an object counts.
type forms struct {
	replaced, made map[string]bool
	// redacted are the frames that were, by epoch, rising.
	redacted map[lsn.Epoch][]lsn.LSN
	purges   uint64
}

func formsOf(purges []Redaction) forms {
	f := forms{replaced: make(map[string]bool), made: make(map[string]bool), redacted: make(map[lsn.Epoch][]lsn.LSN), purges: uint64(len(purges))}
	defer func() {
		for _, list := range f.redacted {
			slices.Sort(list)
		}
	}()
	for i := range purges {
		for _, x := range purges[i].Frames {
			f.redacted[x.Epoch] = append(f.redacted[x.Epoch], x.LSN)
		}
		for _, r := range purges[i].Replaced {
			f.replaced[r.Old] = true
			f.made[r.New] = true
		}
	}
	return f
}

// counts reports an object that was not replaced, and was made by no purge that did
// not come to its end, and by no node that a purge has passed by: each object that holds
// a redacted frame was made by a purge, or is not to be there.
func (f *forms) counts(k Key) bool {
	name := k.String()
	if f.replaced[name] || RewriteOf(k) != 0 && !f.made[name] {
		return false
	}
	switch k := k.(type) {
	case SegmentKey:
		return k.Rewrite != 0 || !f.holds(k.Epoch, k.First, k.Last)
	case PartKey:
		return k.Rewrite != 0 || !f.holds(k.Epoch, k.From, k.To)
	}
	return true
}

// holds reports a redacted frame among those from first to last.
func (f *forms) holds(epoch lsn.Epoch, first, last lsn.LSN) bool {
	list := f.redacted[epoch]
	i, _ := slices.BinarySearch(list, first)
	return i < len(list) && list[i] <= last
}

// unpurged reports a checkpoint of a state that was not built behind all purges.
func (f *forms) unpurged(c *Checkpoint) bool {
	return c.Purges < f.purges && !f.made[c.Key().String()]
}

// Counts tells which objects count, as of this survey.
func (s *Survey) Counts() func(Key) bool {
	f := formsOf(s.Redactions)
	return f.counts
}

// redactions reads all records, oldest first. One that cannot be read is an error:
// without it the archive would be told of wrongly.
func (a *Archive) redactions(ctx context.Context) ([]Redaction, error) {
	list, err := keys[RedactionKey](ctx, a, redactionPrefix, "", nil)
	if err != nil {
		return nil, err
	}
	out := make([]Redaction, len(list))
	for i, k := range list {
		if err := a.read(ctx, k.Key, maxManifestBytes, &out[i]); err != nil {
			return nil, err
		}
		if out[i].ID != k.Key.ID {
			return nil, a.damaged(k.Key, errors.New("it has another id"))
		}
	}
	return out, nil
}

// Payloads are the hashes of what purges have left of the bodies of frames.
func (s *Survey) Payloads() map[lsn.Pos]lsn.Chain {
	out := make(map[lsn.Pos]lsn.Chain)
	for i := range s.Redactions { // oldest first: the newest one counts
		for _, f := range s.Redactions[i].Frames {
			out[lsn.Pos{Epoch: f.Epoch, LSN: f.LSN}] = f.Payload
		}
	}
	return out
}

// Lack is what the state lacks after a frame, by purge.
type Lack struct {
	Tenant ulid.ULID
	Interval
}

// Lacks tells what purges have taken out of the state after a frame.
func (s *Survey) Lacks(p lsn.Pos) (out []Lack) {
	for i := range s.Redactions {
		r := &s.Redactions[i]
		at := slices.IndexFunc(r.Intervals, func(x Interval) bool { return x.Epoch == p.Epoch && x.From <= p.LSN && p.LSN <= x.To })
		if at >= 0 {
			out = append(out, Lack{r.Tenant, r.Intervals[at]})
		}
	}
	return out
}

// NextRedaction is the id of the purge behind those of a survey. It is their number in
// the form of a ULID: of two purges that were planned on the same archive only one can
// create its record.
func (s *Survey) NextRedaction() string {
	var id ulid.ULID
	if err := id.SetTime(uint64(len(s.Redactions) + 1)); err != nil {
		panic(fmt.Sprintf("%d purges: %v", len(s.Redactions), err)) // a ULID holds 2^48
	}
	return id.String()
}

// ErrOvertaken says that another purge has come to its end meanwhile.
var ErrOvertaken = errors.New("another purge came to its end meanwhile; plan this one again")

// Commit creates the record: the purge counts from then on. A name that is taken is
// ErrOvertaken, unless what has it is this very record.
func (a *Archive) Commit(ctx context.Context, instance ulid.ULID, d *Redaction) error {
	d.Head = Head{Format: format, Instance: instance}
	d.Time = moment(d.Time)
	b, err := encode(d)
	if err != nil {
		return fmt.Errorf("make %s: %w", d.Key(), err)
	}
	if len(b) > maxManifestBytes {
		return fmt.Errorf("make %s: it has %d bytes, the most is %d; purge fewer rows at once", d.Key(), len(b), maxManifestBytes)
	}
	return a.putOwn(ctx, d.Key(), object.Bytes(b), ErrOvertaken)
}

// putOwn creates an object that nobody else makes: a name that is taken is an error,
// unless it was taken by a try of this call whose answer was lost.
func (a *Archive) putOwn(ctx context.Context, k Key, body object.Body, taken error) error {
	err := a.store.Put(ctx, k.String(), body)
	if !errors.Is(err, object.ErrExists) {
		return err
	}
	r, err := a.open(ctx, k, 0, -1)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return a.unread(k, err)
	}
	if n != body.Size || [sha256.Size]byte(sum.Sum(nil)) != body.SHA256 {
		return fmt.Errorf("%s in %s: %w", k, a.store, taken)
	}
	return nil
}

// Announced are the contents of the checkpoints that are being made behind all purges,
// and the names of announcements of those that are not.
func (a *Archive) Announced(ctx context.Context) (contents map[lsn.Chain]bool, unpurged []string, err error) {
	list, err := keys[PendingKey](ctx, a, pendingPrefix, "", nil)
	if err != nil {
		return nil, nil, err
	}
	records, err := keys[RedactionKey](ctx, a, redactionPrefix, "", nil)
	if err != nil {
		return nil, nil, err
	}
	contents = make(map[lsn.Chain]bool)
	for _, k := range list {
		var d Pending
		err := a.read(ctx, k.Key, maxManifestBytes, &d)
		if missing := (*MissingError)(nil); errors.As(err, &missing) {
			continue // its manifest is there, or it was given up
		} else if err != nil {
			return nil, nil, err
		}
		if d.Purges < uint64(len(records)) {
			unpurged = append(unpurged, k.Key.String())
			continue
		}
		for _, sum := range d.SHA256 {
			contents[sum] = true
		}
	}
	return contents, unpurged, nil
}

// Names lists all objects below a prefix, "" for all there are, whatever counts of them.
func (a *Archive) Names(ctx context.Context, prefix string) (out []object.Info, err error) {
	err = a.each(ctx, prefix, "", func(info object.Info) error {
		out = append(out, info)
		return nil
	})
	return out, err
}

// PutRewritten uploads what a purge has left of a segment or a part, compressed, and
// reads it back: the frames must lead to the chain value that they led to before.
func (a *Archive) PutRewritten(ctx context.Context, k Key, raw []byte, instance ulid.ULID, end wal.Tail) error {
	var p part
	enc, err := newEncoder()
	if err != nil {
		return err
	}
	if err := p.compress(enc, raw); err != nil {
		return err
	}
	if err := a.putOwn(ctx, k, p.body, ErrOvertaken); err != nil {
		return err
	}
	return a.holdRewritten(ctx, k, instance, end)
}

func (a *Archive) holdRewritten(ctx context.Context, k Key, instance ulid.ULID, end wal.Tail) (err error) {
	f, err := a.OpenFrames(ctx, k, instance)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for {
		if _, err := f.Next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
	}
	if f.Tail() != end {
		return a.damaged(k, fmt.Errorf("it leads to LSN %d, chain %s; it was to lead to LSN %d, chain %s", f.Tail().Pos.LSN, f.Tail().Chain, end.Pos.LSN, end.Chain))
	}
	return nil
}

// OpenFrames reads a segment or a part.
func (a *Archive) OpenFrames(ctx context.Context, k Key, instance ulid.ULID) (*Frames, error) {
	switch k := k.(type) {
	case SegmentKey:
		return a.OpenSegment(ctx, k, instance)
	case PartKey:
		return a.OpenPart(ctx, k, instance)
	}
	return nil, &KeyError{k.String()}
}

// PutManifest creates the manifest of a checkpoint that a purge has rewritten, whose
// files are there. A sweep that condemned one of them meanwhile is an error.
func (a *Archive) PutManifest(ctx context.Context, instance ulid.ULID, m *Manifest) error {
	m.Head = Head{Format: format, Instance: instance}
	b, err := encode(m)
	if err != nil {
		return fmt.Errorf("make %s: %w", m.Key(), err)
	}
	if err := a.putOwn(ctx, m.Key(), object.Bytes(b), ErrOvertaken); err != nil {
		return err
	}
	condemned, err := a.condemned(ctx)
	if err != nil {
		return err
	}
	for i := range m.Files {
		if condemned[m.Files[i].Key()] {
			return fmt.Errorf("%w: retention has condemned %s meanwhile; run the purge again", ErrIncomplete, m.Files[i].Key())
		}
	}
	return a.Complete(ctx, m)
}

// FreeName gives a content a name that nothing has condemned or taken for another.
func (a *Archive) FreeName(ctx context.Context, files []File) error {
	condemned, err := a.condemned(ctx)
	if err != nil {
		return err
	}
	for i := range files {
		for files[i].Generation = 0; condemned[files[i].Key()]; files[i].Generation++ {
		}
	}
	return nil
}
