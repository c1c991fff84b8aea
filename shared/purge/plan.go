package purge

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"

	"originchain/shared/archive"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/restore"
)

// Options say what is purged, and with what.
type Options struct {
	Store    object.Store
	Selector Selector
	// Instance is whose archive it must be; zero takes any.
	Instance ulid.ULID
	FS       vfs.FS
	// Scratch is a directory of its own, for one state at a time, twice while a
	// checkpoint is rewritten. What is in it is removed.
	Scratch string
	// Actor and Reason go into the record; no row data belongs there.
	Actor, Reason string
	// CacheBytes and MemtableBytes size the states in Scratch; 0 takes the defaults.
	CacheBytes    int64
	MemtableBytes uint64
	// Note is told what is being done; nil is nobody.
	Note func(format string, args ...any)
}

// Plan is what a purge would do, as data. It names no row.
type Plan struct {
	// ID is a hash of all of it, and of the archive as it was: what was planned is only
	// done while that is so.
	ID       string    `json:"plan"`
	Instance ulid.ULID `json:"instance_id"`
	Archive  string    `json:"archive"`
	Tenant   ulid.ULID `json:"tenant"`
	Schema   string    `json:"schema"`
	// Keys counts the primary keys that are the subject's.
	Keys int `json:"keys"`
	// Live says that the newest state still has pairs of the subject's: Rows of them are
	// rows, Answers stored answers with the keys that order them.
	Live        bool `json:"live"`
	LiveRows    int  `json:"live_rows"`
	LiveAnswers int  `json:"live_answers"`
	// Frames counts those that are redacted, Blanked those of them that no checkpoint
	// leads to.
	Frames  int `json:"frames"`
	Blanked int `json:"blanked_frames"`
	// Ranges are where the state holds pairs of the subject's.
	Ranges      []Range             `json:"ranges"`
	Objects     []PlannedObject     `json:"objects"`
	Checkpoints []PlannedCheckpoint `json:"checkpoints"`
	// Bytes is the size of what is rewritten.
	Bytes int64 `json:"bytes_to_rewrite"`
	// Remains is what will be left to be done on the nodes.
	Remains

	survey    *archive.Survey
	edits     map[lsn.Pos]*edit
	intervals []archive.Interval
	// lacking are the subject's pairs in the state of each checkpoint that stays.
	lacking map[archive.CheckpointKey]map[string]pair
}

// Range is a run of frames of an epoch after which the state holds something.
type Range struct {
	Epoch lsn.Epoch `json:"epoch"`
	From  lsn.LSN   `json:"from_lsn"`
	To    lsn.LSN   `json:"to_lsn"`
}

// PlannedObject is a segment or a part that holds frames to redact.
type PlannedObject struct {
	Key    string `json:"key"`
	Frames int    `json:"frames"`
	Bytes  int64  `json:"bytes"`
	// Drop says that a segment holds all of its frames: it is erased.
	Drop bool `json:"drop"`

	key archive.Key
}

// PlannedCheckpoint is a checkpoint, all of which are rewritten or dropped.
type PlannedCheckpoint struct {
	Key   string  `json:"key"`
	LSN   lsn.LSN `json:"lsn"`
	Bytes int64   `json:"bytes"`
	// Drop says that another one and the log lead to every point that it leads to.
	Drop bool `json:"drop"`

	key archive.CheckpointKey
}

// planning makes a plan.
type planning struct {
	o *Options
	a *archive.Archive
	s *archive.Survey
	// lines are all that have frames of their own, the newest first.
	lines   []archive.Line
	subject *subject
	track   *tracker
	plan    *Plan
	// reached are the frames that some checkpoint, or LSN 1, leads to.
	reached []Range
}

// MakePlan finds out what a purge would do; it changes nothing.
func MakePlan(ctx context.Context, o Options) (*Plan, error) {
	if o.Note == nil {
		o.Note = func(string, ...any) {}
	}
	p := &planning{o: &o, a: archive.New(restore.Patient(o.Store)), subject: newSubject(o.Selector)}
	var err error
	if p.s, err = p.a.Survey(ctx); err != nil {
		return nil, err
	}
	if err := p.admit(); err != nil {
		return nil, err
	}
	p.plan = &Plan{
		Instance: p.s.Instance.Instance, Archive: o.Store.String(), Tenant: o.Selector.Tenant, Schema: o.Selector.Schema, survey: p.s,
		edits: map[lsn.Pos]*edit{}, lacking: map[archive.CheckpointKey]map[string]pair{},
		Ranges: []Range{}, Objects: []PlannedObject{}, Checkpoints: []PlannedCheckpoint{},
	}
	p.chooseCheckpoints()
	// Which rows are meant is known when all of the history was read: so twice.
	o.Note("read the history to find the rows")
	if err := p.walk(ctx, walker{state: p.learnState, frame: p.learnFrame}); err != nil {
		return nil, err
	}
	if err := p.subject.check(); err != nil {
		return nil, err
	}
	o.Note("read the history to follow them")
	p.track = &tracker{s: p.subject}
	if err := p.walk(ctx, walker{state: p.trackState, frame: p.trackFrame, end: p.trackEnd}); err != nil {
		return nil, err
	}
	p.settleIntervals()
	o.Note("find the objects that hold them")
	if err := p.objects(ctx); err != nil {
		return nil, err
	}
	return p.plan, p.finish()
}

// UnfitError says that an archive cannot be purged completely as it is.
type UnfitError struct{ Why string }

// Error implements error.
func (e *UnfitError) Error() string {
	return "the archive cannot be purged completely: " + e.Why + "; nothing was changed"
}

// admit refuses an archive that cannot be told whole.
func (p *planning) admit() error {
	if !p.o.Instance.IsZero() && p.o.Instance != p.s.Instance.Instance {
		return &archive.ForeignError{Store: p.o.Store.String(), Key: archive.InstanceKey{}.String(), Theirs: p.s.Instance.Instance, Ours: p.o.Instance}
	}
	if len(p.s.Faults) > 0 {
		return fmt.Errorf("%w: mend or remove what is damaged or none of the archive's first", &UnfitError{errors.Join(p.s.Faults...).Error()})
	}
	if len(p.s.Unpurged) > 0 {
		return &UnfitError{p.s.Unpurged[0].Error()}
	}
	for _, epoch := range restore.Heads(p.s) {
		line, _ := p.s.Line(epoch)
		if line.Broken != "" {
			return &UnfitError{fmt.Sprintf("the line of epoch %d goes back to %s, which is not there", epoch, line.Broken)}
		}
		p.lines = append(p.lines, line)
	}
	if len(p.lines) == 0 || p.s.Newest() != restore.Heads(p.s)[0] {
		return &UnfitError{"it has no line"}
	}
	known := func(epoch lsn.Epoch) bool {
		return slices.ContainsFunc(p.s.Epochs, func(d archive.Epoch) bool { return d.Epoch == epoch })
	}
	for _, k := range logKeys(p.s) {
		if epoch, _, _ := spanOf(k.Key); !known(epoch) {
			return &UnfitError{fmt.Sprintf("%s is of an epoch that has no object", k.Key)}
		}
	}
	for i := range p.s.Checkpoints {
		if c := &p.s.Checkpoints[i]; !known(c.Epoch) {
			return &UnfitError{fmt.Sprintf("%s is of an epoch that has no object", c.Key())}
		}
	}
	return nil
}

// logKeys are all segments and parts that count.
func logKeys(s *archive.Survey) (out []archive.Sized[archive.Key]) {
	for _, k := range s.Segments {
		out = append(out, archive.Sized[archive.Key]{Key: k.Key, Size: k.Size})
	}
	for _, k := range s.Parts {
		out = append(out, archive.Sized[archive.Key]{Key: k.Key, Size: k.Size})
	}
	return out
}

// spanOf is what the name of a segment or a part says of its frames.
func spanOf(k archive.Key) (epoch lsn.Epoch, from, to lsn.LSN) {
	switch k := k.(type) {
	case archive.SegmentKey:
		return k.Epoch, k.First, k.Last
	case archive.PartKey:
		return k.Epoch, k.From, k.To
	}
	return 0, 0, 0
}

// chooseCheckpoints drops those without which every frame is led to all the same; the
// newest stays, so that a restore has one to begin with.
func (p *planning) chooseCheckpoints() {
	list := slices.Clone(p.s.Checkpoints)
	slices.SortFunc(list, func(x, y archive.Checkpoint) int {
		return cmp.Or(cmp.Compare(x.LSN, y.LSN), cmp.Compare(x.Epoch, y.Epoch))
	})
	stays := map[archive.CheckpointKey]bool{}
	if on := p.lines[0].Checkpoints; len(on) > 0 {
		stays[on[len(on)-1].Key()] = true
	}
	for i := range list {
		c := &list[i]
		k := c.Key()
		for j := range p.lines {
			if l := &p.lines[j]; l.Has(lsn.Pos{Epoch: c.Epoch, LSN: c.LSN}) && !ledTo(l, c.LSN, stays) {
				stays[k] = true
			}
		}
		planned := PlannedCheckpoint{Key: k.String(), LSN: c.LSN, Bytes: c.Bytes, Drop: !stays[k], key: k}
		p.plan.Checkpoints = append(p.plan.Checkpoints, planned)
	}
}

// ledTo reports a frame that LSN 1, or a checkpoint below that stays, leads to.
func ledTo(l *archive.Line, at lsn.LSN, stays map[archive.CheckpointKey]bool) bool {
	reaches := func(from lsn.LSN) bool {
		rg := l.RangeOf(from)
		return rg != nil && rg.To >= at
	}
	if reaches(1) {
		return true
	}
	for i := range l.Checkpoints {
		if c := &l.Checkpoints[i]; c.LSN < at && stays[c.Key()] && reaches(c.LSN+1) {
			return true
		}
	}
	return false
}

// settleIntervals sorts what the lines gave, once each.
func (p *planning) settleIntervals() {
	list := p.track.intervals
	slices.SortFunc(list, func(x, y archive.Interval) int {
		return cmp.Or(cmp.Compare(x.Epoch, y.Epoch), cmp.Compare(x.From, y.From), cmp.Compare(x.To, y.To))
	})
	list = slices.CompactFunc(list, func(x, y archive.Interval) bool { return x.Epoch == y.Epoch && x.From == y.From && x.To == y.To })
	p.plan.intervals = list
	for _, x := range list {
		if n := len(p.plan.Ranges); n > 0 && p.plan.Ranges[n-1].Epoch == x.Epoch && p.plan.Ranges[n-1].To+1 >= x.From {
			p.plan.Ranges[n-1].To = max(p.plan.Ranges[n-1].To, x.To)
			continue
		}
		p.plan.Ranges = append(p.plan.Ranges, Range{x.Epoch, x.From, x.To})
	}
}

// objects finds the segments and parts that hold frames to redact, and blanks frames
// that no checkpoint leads to.
func (p *planning) objects(ctx context.Context) error {
	for _, k := range logKeys(p.s) {
		n, err := p.object(ctx, k.Key)
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		planned := PlannedObject{Key: k.Key.String(), Frames: n, Bytes: k.Size, key: k.Key, Drop: p.covered(k.Key)}
		p.plan.Objects = append(p.plan.Objects, planned)
		if !planned.Drop {
			p.plan.Bytes += k.Size
		}
	}
	return nil
}

// covered reports a part all of whose frames are in a segment.
func (p *planning) covered(k archive.Key) bool {
	part, ok := k.(archive.PartKey)
	return ok && slices.ContainsFunc(p.s.Segments, func(s archive.Sized[archive.SegmentKey]) bool {
		return s.Key.Epoch == part.Epoch && s.Key.First <= part.From && s.Key.Last >= part.To
	})
}

// object counts the frames of an object that are to be redacted.
func (p *planning) object(ctx context.Context, k archive.Key) (n int, err error) {
	epoch, from, to := spanOf(k)
	if !p.concerned(epoch, from, to) {
		return 0, nil
	}
	err = p.frames(ctx, k, func(f *frame.Frame) (bool, error) {
		at := lsn.Pos{Epoch: f.Epoch, LSN: f.LSN}
		if p.plan.edits[at] == nil && !p.isReached(at) {
			e, err := p.blank(f)
			if err != nil {
				return false, err
			}
			if e != nil {
				p.plan.edits[at] = e
				p.plan.Blanked++
			}
		}
		e := p.plan.edits[at]
		if e == nil {
			return true, nil
		}
		n++
		_, err := e.apply(f)
		return true, err
	})
	return n, err
}

// concerned reports an object that may hold frames to redact.
func (p *planning) concerned(epoch lsn.Epoch, from, to lsn.LSN) bool {
	for n := from; n <= to; n++ {
		at := lsn.Pos{Epoch: epoch, LSN: n}
		if p.plan.edits[at] != nil || !p.isReached(at) {
			return true
		}
	}
	return false
}

func (p *planning) isReached(at lsn.Pos) bool {
	return slices.ContainsFunc(p.reached, func(r Range) bool { return r.Epoch == at.Epoch && r.From <= at.LSN && at.LSN <= r.To })
}

// blank leaves nothing of a frame that touches the tenant's rows.
func (p *planning) blank(f *frame.Frame) (*edit, error) {
	ops, err := opsOf(f)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(ops, func(o frame.Op) bool { return p.subject.mayTell(&o) }) {
		return nil, nil
	}
	e := &edit{chain: f.Chain, actions: make([]action, len(ops))}
	for i := range e.actions {
		e.actions[i] = drop
	}
	return e, nil
}

// frames calls visit for the frames of an object until it returns false.
func (p *planning) frames(ctx context.Context, k archive.Key, visit func(f *frame.Frame) (bool, error)) (err error) {
	f, err := p.a.OpenFrames(ctx, k, p.s.Instance.Instance)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for {
		fr, err := f.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if more, err := visit(fr); err != nil || !more {
			return err
		}
	}
}

// finish counts, and gives the plan its id. The subject's key is not in it, so that it
// cannot be guessed from the record.
func (p *planning) finish() error {
	q := p.plan
	for _, keys := range p.subject.keys {
		q.Keys += len(keys)
	}
	q.Frames = len(q.edits)
	for i := range q.Checkpoints {
		if !q.Checkpoints[i].Drop {
			q.Bytes += q.Checkpoints[i].Bytes
		}
	}
	q.Remains = remainsOf(p.s.Epochs, slices.Collect(maps.Keys(q.edits)))
	if most := max(q.Frames, len(q.intervals), len(q.Objects)+len(q.Checkpoints)); most > archive.MaxRedacted {
		return &UnfitError{fmt.Sprintf("%d frames, intervals or objects are concerned, one purge takes at most %d: select fewer rows", most, archive.MaxRedacted)}
	}
	type edited struct {
		At      lsn.Pos
		Chain   lsn.Chain
		Actions []action
	}
	var edits []edited
	for at, e := range q.edits {
		edits = append(edits, edited{at, e.chain, e.actions})
	}
	slices.SortFunc(edits, func(x, y edited) int {
		return cmp.Or(cmp.Compare(x.At.Epoch, y.At.Epoch), cmp.Compare(x.At.LSN, y.At.LSN))
	})
	b, err := json.Marshal([]any{fingerprint(p.s), q, q.intervals, edits})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(b)
	q.ID = hex.EncodeToString(sum[:16])
	return nil
}

// fingerprint is what counts in an archive, by name and size.
func fingerprint(s *archive.Survey) []string {
	out := []string{s.Instance.Instance.String(), fmt.Sprint(len(s.Redactions))}
	for i := range s.Epochs {
		out = append(out, archive.EpochKey{Epoch: s.Epochs[i].Epoch}.String())
	}
	for _, k := range logKeys(s) {
		out = append(out, fmt.Sprint(k.Key, k.Size))
	}
	for i := range s.Checkpoints {
		out = append(out, fmt.Sprint(s.Checkpoints[i].Key(), s.Checkpoints[i].FilesSHA256))
	}
	slices.Sort(out)
	return out
}
