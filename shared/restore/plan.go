package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/archive"
	"originchain/shared/lsn"
	"originchain/shared/object"
)

// Request says what to restore. One of Time, LSN and Latest is set.
type Request struct {
	// Instance is whose archive it must be; zero takes any.
	Instance ulid.ULID
	// Region is where this machine is; "" does not ask. Another one than the archive's
	// is refused without AllowCrossRegion.
	Region           string
	AllowCrossRegion bool
	// Epoch is whose line to restore; 0 is that of the highest.
	Epoch  lsn.Epoch
	Time   time.Time
	LSN    lsn.LSN
	Latest bool
	// Checkpoint is where the replay is to begin, 0 for the beginning of the log; nil for
	// the newest checkpoint that leads to the target.
	Checkpoint *lsn.LSN
	// Clock decides what Time means where stamps and the writer's clock are apart.
	Clock Clock
}

// Clock is what times are compared with.
type Clock string

// The clocks. Unset, stamps count, and a restore is refused where they are away from
// the writer's clock.
const (
	Unset Clock = ""
	Stamp Clock = "stamp"
	Wall  Clock = "wall"
)

// asked is the target in words.
func (r *Request) asked() string {
	switch {
	case r.LSN > 0:
		return fmt.Sprintf("LSN %d", r.LSN)
	case r.Latest:
		return "the latest point"
	}
	return r.Time.UTC().Format(time.RFC3339Nano)
}

// Plan is what a restore will do, as data.
type Plan struct {
	Instance ulid.ULID `json:"instance_id"`
	Region   string    `json:"region"`
	// Line is the epoch whose line is restored.
	Line lsn.Epoch `json:"line_epoch"`
	// Newest is the highest epoch that the archive knows.
	Newest lsn.Epoch `json:"newest_epoch"`
	// Target is the exact frame.
	Target Point `json:"target"`
	// Checkpoint is where the replay begins; nil: at LSN 1.
	Checkpoint *archive.Checkpoint `json:"checkpoint"`
	// Pieces are the objects of the log to replay.
	Pieces []archive.Piece `json:"-"`
	// Segments and Parts count them, Frames what is replayed of them.
	Segments int    `json:"segments"`
	Parts    int    `json:"tail_parts"`
	Frames   uint64 `json:"frames"`
	// CheckpointBytes and LogBytes are what is fetched.
	CheckpointBytes int64 `json:"checkpoint_bytes"`
	LogBytes        int64 `json:"log_bytes"`
	// From and Until are the ends of what is recoverable on the line.
	From  Point `json:"recoverable_from"`
	Until Point `json:"recoverable_until"`
	// Gaps are frames that the archive lacks on the line. Those above the target do not
	// matter to it.
	Gaps []Hole `json:"gaps"`
	// Faults are objects that are damaged or are none of an archive's, which the plan
	// does without.
	Faults []string `json:"faults"`

	survey *archive.Survey
	line   *archive.Line
	// cutOff are the frames that keep what the archive has behind the newest target from
	// being reached; nil for none.
	cutOff *cutOff
}

// Bytes is what is fetched.
func (p *Plan) Bytes() int64 { return p.CheckpointBytes + p.LogBytes }

// Unread are the documents of the archive, and the objects at the ends of what it holds,
// that the plan does without because they cannot be read, and what the newest point that
// can be reached does without. A name that is none of an archive's is no document.
func (p *Plan) Unread() (out []string) {
	for _, f := range p.survey.Faults {
		if !errors.As(f, new(*archive.KeyError)) {
			out = append(out, f.Error())
		}
	}
	if p.cutOff != nil {
		out = append(out, p.cutOff.String())
	}
	return out
}

// MakePlan finds out what a restore would do. Errors say what the archive is (as
// package archive does), or are a *TargetError or *ClockError.
func MakePlan(ctx context.Context, store object.Store, req Request) (*Plan, error) {
	r, w, cut, err := settledReach(ctx, archive.New(patient{store}), &req)
	if err != nil {
		return nil, err
	}
	if len(w) == 0 {
		if len(r.unread) > 0 {
			return nil, fmt.Errorf("%s cannot be reached, because nothing on the line of epoch %d can: %w", req.asked(), req.Epoch, r.unread[0])
		}
		return nil, &TargetError{Why: Nothing, Asked: req.asked(), Line: req.Epoch}
	}
	at, err := r.resolve(ctx, &req, w)
	if target := (*TargetError)(nil); errors.As(err, &target) {
		target.Missing = r.l.Broken
		if target.Why == After && (req.LSN == 0 || req.LSN <= r.end()) && cut != nil {
			target.Why = Gap
		}
	}
	if err != nil {
		return nil, err
	}
	p := &Plan{
		Instance: r.s.Instance.Instance, Region: r.s.Instance.Region, Line: req.Epoch, Newest: r.s.Newest(), Target: at,
		From: w[0].From, Until: w[len(w)-1].Until, Gaps: holes(r.l), Faults: []string{}, survey: r.s, line: r.l,
	}
	for _, f := range faults(r.s) {
		p.Faults = append(p.Faults, f.Error())
	}
	if cut != nil && at.LSN == cut.from-1 {
		p.cutOff = cut
		p.Faults = append(p.Faults, cut.String())
	}
	return p, p.choose(req.Checkpoint)
}

// survey lists the archive and picks the line; it sets the request's epoch.
func survey(ctx context.Context, a *archive.Archive, req *Request) (*reading, error) {
	s, err := look(ctx, a)
	if err != nil {
		return nil, err
	}
	if err := admit(a, s, req); err != nil {
		return nil, err
	}
	if req.Epoch == 0 {
		if err := newestKnown(a, s); err != nil {
			return nil, err
		}
		req.Epoch = s.Newest()
	}
	l, ok := s.Line(req.Epoch)
	if !ok {
		e := &TargetError{Why: NoLine, Asked: req.asked(), Line: req.Epoch}
		for i := range s.Epochs {
			e.Lines = append(e.Lines, s.Epochs[i].Epoch)
		}
		slices.Sort(e.Lines)
		// What kept the epoch's object from being read says more.
		return nil, errors.Join(append([]error{e}, s.Faults...)...)
	}
	return &reading{a: a, s: s, l: &l}, nil
}

// newestKnown refuses to take a line for the newest while there are traces of a newer
// epoch whose object cannot be read: a restore of the line before would lose it and
// not say so.
func newestKnown(a *archive.Archive, s *archive.Survey) error {
	newest := s.Newest()
	for _, fault := range s.Faults {
		if epochOf(fault) > newest {
			return fmt.Errorf("%w; it may be the newest line: name the epoch to restore with --epoch to do without it", fault)
		}
	}
	if highest := traced(s); highest > newest {
		return fmt.Errorf("%w; name the epoch to restore with --epoch to do without it", &archive.MissingError{Store: a.Store().String(), Key: archive.EpochKey{Epoch: highest}.String()})
	}
	return nil
}

// epochOf is the epoch whose object a fault is about; 0 for another fault.
func epochOf(fault error) lsn.Epoch {
	var damaged *archive.DamagedError
	var newer *archive.NewerError
	name := ""
	if errors.As(fault, &damaged) {
		name = damaged.Key
	} else if errors.As(fault, &newer) {
		name = newer.What
	}
	if k, err := archive.ParseKey(name); err == nil {
		if e, ok := k.(archive.EpochKey); ok {
			return e.Epoch
		}
	}
	return 0
}

// traced is the highest epoch that an archive has anything of, whether or not it has its
// object and that can be read.
func traced(s *archive.Survey) (highest lsn.Epoch) {
	highest = s.Newest()
	for _, fault := range s.Faults {
		highest = max(highest, epochOf(fault))
	}
	for i := range s.Segments {
		highest = max(highest, s.Segments[i].Key.Epoch)
	}
	for i := range s.Parts {
		highest = max(highest, s.Parts[i].Key.Epoch)
	}
	for i := range s.Checkpoints {
		highest = max(highest, s.Checkpoints[i].Epoch)
	}
	return highest
}

// look lists the archive. A document that is damaged is left out of a survey, and a
// line with it: so it is read again before that is believed.
func look(ctx context.Context, a *archive.Archive) (best *archive.Survey, err error) {
	for try := 1; try <= damagedTries; try++ {
		var s *archive.Survey
		if err := again(ctx, func() (err error) { s, err = a.Survey(ctx); return err }); err != nil {
			return nil, err
		}
		if best == nil || len(s.Faults) < len(best.Faults) {
			best = s
		}
		if !slices.ContainsFunc(s.Faults, func(err error) bool { return errors.As(err, new(*archive.DamagedError)) }) {
			break
		}
		if err := pause(ctx, firstBackoff); err != nil {
			return nil, err
		}
	}
	return best, nil
}

// admit holds the archive against whose it is to be, and where.
func admit(a *archive.Archive, s *archive.Survey, req *Request) error {
	store := a.Store().String()
	if !req.Instance.IsZero() && req.Instance != s.Instance.Instance {
		return &archive.ForeignError{Store: store, Key: archive.InstanceKey{}.String(), Theirs: s.Instance.Instance, Ours: req.Instance}
	}
	if req.Region != "" && req.Region != s.Instance.Region && !req.AllowCrossRegion {
		return &archive.RegionError{Store: store, Theirs: s.Instance.Region, Ours: req.Region}
	}
	return nil
}

// replayFrom lists what is replayed on top of the checkpoint.
func (p *Plan) replayFrom() {
	next := lsn.LSN(1)
	if c := p.Checkpoint; c != nil {
		next, p.CheckpointBytes = c.LSN+1, c.Bytes
	}
	p.Pieces = pieces(p.line, next, p.Target.LSN)
	p.Frames = uint64(p.Target.LSN + 1 - next)
	for i := range p.Pieces {
		p.LogBytes += p.Pieces[i].Size
		if p.Pieces[i].Segment != nil {
			p.Segments++
		} else {
			p.Parts++
		}
	}
}

// pieces are the objects that hold the frames from..to of a line.
func pieces(l *archive.Line, from, to lsn.LSN) (out []archive.Piece) {
	if from > to {
		return nil // the state stands there already
	}
	for i := range l.Ranges {
		for _, p := range l.Ranges[i].Pieces {
			if p.To >= from && p.From <= to {
				p.From, p.To = max(p.From, from), min(p.To, to)
				out = append(out, p)
			}
		}
	}
	return out
}
