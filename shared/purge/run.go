package purge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"originchain/shared/archive"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/restore"
	"originchain/shared/wal"
)

// eraseAtOnce is how many objects one call erases.
const eraseAtOnce = 500

// Result is what a purge has done.
type Result struct {
	// ID is that of the record.
	ID       string `json:"id"`
	Plan     string `json:"plan"`
	Archive  string `json:"archive"`
	Frames   int    `json:"frames"`
	Replaced int    `json:"replaced"`
	Dropped  int    `json:"dropped"`
	// Erased is how many objects this run has removed, with all their versions.
	Erased int `json:"erased"`
	// Versions is how many older versions, marks of deletions and unfinished uploads it
	// has removed besides, of objects that were deleted before.
	Versions int `json:"versions"`
	// Resumed says that the purge had been committed by an earlier run, and this one did
	// the rest.
	Resumed bool `json:"resumed"`
	// Remains is what is left to be done on the nodes: they hold the rows until then.
	Remains
}

// LiveError says that the newest state still has what is to be purged.
type LiveError struct{ Rows, Answers int }

// Error implements error.
func (e *LiveError) Error() string {
	return fmt.Sprintf("the newest state in the archive still has %d rows of the subject's and %d stored answers that tell of them; nothing was changed. "+
		"Delete the rows through the writer (without an Idempotency-Key, or its answer tells of them), wait until stored answers have expired, 24 h after the request, and until the archive has the deletion; then plan again", e.Rows, e.Answers)
}

// PlanError says that the plan that was confirmed is not what would be done now.
type PlanError struct{ Confirmed, Now string }

// Error implements error.
func (e *PlanError) Error() string {
	return fmt.Sprintf("plan %s was confirmed, and the plan for the archive as it is now is %s: it has changed meanwhile, or another selection was given; nothing was erased. Stop what writes the archive, and make a dry run again", e.Confirmed, e.Now)
}

// Run does what a plan says, if it is the one that was confirmed. What an earlier Run
// with the same plan has not finished is finished.
func Run(ctx context.Context, o Options, confirmed string) (*Result, error) {
	if o.Note == nil {
		o.Note = func(string, ...any) {}
	}
	a := archive.New(restore.Patient(o.Store))
	s, err := a.Survey(ctx)
	if err != nil {
		return nil, err
	}
	if at := slices.IndexFunc(s.Redactions, func(r archive.Redaction) bool { return r.Plan == confirmed }); at >= 0 {
		e := &execution{o: &o, a: a, s: s}
		return e.erase(ctx, &s.Redactions[at], true)
	}
	plan, err := MakePlan(ctx, o)
	if err != nil {
		return nil, err
	}
	if plan.ID != confirmed {
		return nil, &PlanError{Confirmed: confirmed, Now: plan.ID}
	}
	if plan.Live {
		return nil, &LiveError{Rows: plan.LiveRows, Answers: plan.LiveAnswers}
	}
	e := &execution{o: &o, a: a, s: plan.survey, plan: plan, payloads: map[lsn.Pos]lsn.Chain{}}
	return e.run(ctx)
}

// execution carries out a plan.
type execution struct {
	o    *Options
	a    *archive.Archive
	s    *archive.Survey
	plan *Plan
	// highest is the number of the last rewrite of an object, by its first name.
	highest  map[string]uint32
	replaced []archive.Replaced
	payloads map[lsn.Pos]lsn.Chain
	// made are the names of what was uploaded; files those of files of checkpoints.
	made  map[string]bool
	files map[string]bool
}

func (e *execution) run(ctx context.Context) (*Result, error) {
	e.made, e.files = map[string]bool{}, map[string]bool{}
	if err := e.number(ctx); err != nil {
		return nil, err
	}
	for i := range e.plan.Objects {
		if err := e.rewrite(ctx, &e.plan.Objects[i]); err != nil {
			return nil, err
		}
	}
	for i := range e.plan.Checkpoints {
		if err := e.checkpoint(ctx, &e.plan.Checkpoints[i]); err != nil {
			return nil, err
		}
	}
	record, err := e.record(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.hold(ctx); err != nil {
		return nil, err
	}
	e.o.Note("everything was uploaded and read back; commit purge %s", record.ID)
	if err := e.a.Commit(ctx, e.plan.Instance, record); err != nil {
		return nil, err
	}
	if e.s, err = e.a.Survey(ctx); err != nil {
		return nil, err
	}
	return e.erase(ctx, record, false)
}

// number finds the numbers of rewrites that are taken, by purges that came to nothing
// too.
func (e *execution) number(ctx context.Context) error {
	e.highest = map[string]uint32{}
	names, err := e.a.Names(ctx, "")
	if err != nil {
		return err
	}
	for _, info := range names {
		if k, err := archive.ParseKey(info.Key); err == nil {
			first := archive.Rewritten(k, 0).String()
			e.highest[first] = max(e.highest[first], archive.RewriteOf(k))
		}
	}
	return nil
}

// next is the key of an object's next rewrite.
func (e *execution) next(k archive.Key) archive.Key {
	first := archive.Rewritten(k, 0)
	e.highest[first.String()]++
	return archive.Rewritten(first, e.highest[first.String()])
}

// rewrite uploads an object with its frames redacted.
func (e *execution) rewrite(ctx context.Context, x *PlannedObject) error {
	if x.Drop {
		e.replaced = append(e.replaced, archive.Replaced{Old: x.Key})
		return nil
	}
	e.o.Note("rewrite %s", x.Key)
	raw, end, err := e.redact(ctx, x.key)
	if err != nil {
		return err
	}
	k := e.next(x.key)
	if err := e.a.PutRewritten(ctx, k, raw, e.plan.Instance, end); err != nil {
		return err
	}
	e.made[k.String()] = true
	e.replaced = append(e.replaced, archive.Replaced{Old: x.Key, New: k.String()})
	return nil
}

// redact makes an object anew in memory.
func (e *execution) redact(ctx context.Context, k archive.Key) (raw []byte, end wal.Tail, err error) {
	f, err := e.a.OpenFrames(ctx, k, e.plan.Instance)
	if err != nil {
		return nil, end, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.Size() > archive.MaxRewriteBytes {
		return nil, end, &UnfitError{fmt.Sprintf("%s has %d bytes, and %d can be rewritten", k, f.Size(), int64(archive.MaxRewriteBytes))}
	}
	w, err := wal.NewRewrite(f.Header())
	if err != nil {
		return nil, end, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	for {
		fr, err := f.Next()
		if errors.Is(err, io.EOF) {
			return w.Bytes(f.Footer() != nil), f.Tail(), nil
		} else if err != nil {
			return nil, end, err
		}
		if err := e.frame(w, fr, f.Raw()); err != nil {
			return nil, end, fmt.Errorf("%s: %w", k, err)
		}
	}
}

func (e *execution) frame(w *wal.Rewrite, f *frame.Frame, raw []byte) error {
	at := lsn.Pos{Epoch: f.Epoch, LSN: f.LSN}
	x := e.plan.edits[at]
	if x == nil {
		return w.Keep(f, raw)
	}
	body, err := x.apply(f)
	if err != nil {
		return err
	}
	e.payloads[at] = frame.BodyHash(&f.Salt, body)
	return w.Redact(f, body)
}

// record says what was done, and what is to be erased.
func (e *execution) record(ctx context.Context) (*archive.Redaction, error) {
	r := &archive.Redaction{
		ID: e.s.NextRedaction(), Plan: e.plan.ID, Actor: e.o.Actor, Reason: e.o.Reason, Tenant: e.plan.Tenant, Schema: e.plan.Schema,
		Time: time.Now().UTC(), Intervals: e.plan.intervals, Replaced: e.replaced,
	}
	if len(e.payloads) != len(e.plan.edits) {
		return nil, fmt.Errorf("%d of %d frames were rewritten: the rest is in no object that stays", len(e.payloads), len(e.plan.edits))
	}
	for at, sum := range e.payloads {
		r.Frames = append(r.Frames, archive.RedactedFrame{Epoch: at.Epoch, LSN: at.LSN, Payload: sum})
	}
	slices.SortFunc(r.Frames, func(x, y archive.RedactedFrame) int {
		return cmp.Or(cmp.Compare(x.Epoch, y.Epoch), cmp.Compare(x.LSN, y.LSN))
	})
	// Every checkpoint was made anew: what none of those has held a state that had the
	// rows, or was uploaded for one that never came to be.
	names, err := e.a.Names(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, info := range names {
		switch k, _ := archive.ParseKey(info.Key); k.(type) {
		case archive.FileKey:
			if !e.files[info.Key] {
				r.Erased = append(r.Erased, info.Key)
			}
		case archive.PendingKey:
			r.Erased = append(r.Erased, info.Key)
		}
	}
	return r, nil
}

// hold looks once more, before the purge counts: the archive must be what was planned
// for, and everything that was made must be there.
func (e *execution) hold(ctx context.Context) error {
	now, err := e.a.Survey(ctx)
	if err != nil {
		return err
	}
	if !slices.Equal(fingerprint(now), fingerprint(e.s)) {
		return &PlanError{Confirmed: e.plan.ID, Now: "another"}
	}
	names, err := e.a.Names(ctx, "")
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(names))
	for _, info := range names {
		there[info.Key] = true
	}
	for _, list := range []map[string]bool{e.made, e.files} {
		for name := range list {
			if !there[name] {
				return fmt.Errorf("%w: %s was uploaded and is gone; run the purge again", archive.ErrIncomplete, name)
			}
		}
	}
	return nil
}

// erase removes, with all versions, what a committed purge has replaced, and what
// purges that came to nothing have left. It looks afterwards that all of it is gone.
func (e *execution) erase(ctx context.Context, r *archive.Redaction, resumed bool) (*Result, error) {
	out := &Result{ID: r.ID, Plan: r.Plan, Archive: e.o.Store.String(), Frames: len(r.Frames), Resumed: resumed}
	frames := make([]lsn.Pos, len(r.Frames))
	for i, f := range r.Frames {
		frames[i] = lsn.Pos{Epoch: f.Epoch, LSN: f.LSN}
	}
	out.Remains = remainsOf(e.s.Epochs, frames)
	for _, x := range r.Replaced {
		if x.New == "" {
			out.Dropped++
		} else {
			out.Replaced++
		}
	}
	list, err := e.doomed(ctx, r)
	if err != nil {
		return nil, err
	}
	if err := e.eraseAll(ctx, r, list); err != nil {
		return nil, err
	}
	out.Erased = len(list)
	if out.Versions, err = e.eraseVersions(ctx, r); err != nil {
		return nil, err
	}
	// What is to be gone is looked for anew: a node that goes on may have shipped more.
	if list, err = e.doomed(ctx, r); err != nil {
		return nil, err
	}
	names, err := e.a.Names(ctx, "")
	if err != nil {
		return nil, err
	}
	for _, info := range names {
		if _, found := slices.BinarySearch(list, info.Key); found {
			return nil, fmt.Errorf("%s is there again after it was erased: a node ships it; stop it, then run again with --confirm %s", info.Key, r.Plan)
		}
	}
	return out, nil
}

func (e *execution) eraseAll(ctx context.Context, r *archive.Redaction, list []string) error {
	e.o.Note("erase %d objects with all their versions", len(list))
	for batch := range slices.Chunk(list, eraseAtOnce) {
		if err := e.o.Store.Erase(ctx, batch...); err != nil {
			return fmt.Errorf("the purge counts, and not all of the old objects are erased yet: run it again with --confirm %s: %w", r.Plan, err)
		}
	}
	return nil
}

// versionPasses bounds how often old versions are looked for until none is found.
const versionPasses = 3

// eraseVersions removes what the store keeps of objects that were there before: those
// that retention has deleted held the rows too, and no list tells of them. The last pass
// proves that none is left.
func (e *execution) eraseVersions(ctx context.Context, r *archive.Redaction) (all int, err error) {
	e.o.Note("erase old versions of what was removed before")
	for range versionPasses {
		n, err := e.o.Store.EraseVersions(ctx, "")
		all += n
		if err != nil {
			return all, fmt.Errorf("the purge counts, and not all old versions are erased yet: run it again with --confirm %s: %w", r.Plan, err)
		}
		if n == 0 {
			return all, nil
		}
	}
	return all, fmt.Errorf("the store goes on making old versions of objects: stop what removes them, then run again with --confirm %s", r.Plan)
}

// doomed lists, in order, what a committed purge erases: old names, whether or not they
// are there, since a deleted object may have older versions; what was shipped past a
// purge; and files that no checkpoint that counts has, or is being made of.
func (e *execution) doomed(ctx context.Context, r *archive.Redaction) ([]string, error) {
	// In this order a file that is being made a checkpoint of is announced, or named.
	names, err := e.a.Names(ctx, "")
	if err != nil {
		return nil, err
	}
	announced, list, err := e.a.Announced(ctx)
	if err != nil {
		return nil, err
	}
	if e.s, err = e.a.Survey(ctx); err != nil {
		return nil, err
	}
	if err := unread(e.s); err != nil {
		return nil, fmt.Errorf("the purge counts, and nothing is erased while a document of the archive cannot be read, since the files that it names would be taken for nobody's: mend it, then run again with --confirm %s: %w", r.Plan, err)
	}
	needed, err := e.needed(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range r.Replaced {
		list = append(list, x.Old)
	}
	for _, name := range r.Erased {
		if !needed[name] {
			list = append(list, name)
		}
	}
	for _, x := range e.s.Unpurged {
		list = append(list, x.Key)
	}
	counts := e.s.Counts()
	for _, info := range names {
		k, err := archive.ParseKey(info.Key)
		if err != nil {
			continue
		}
		if f, ok := k.(archive.FileKey); ok && !needed[info.Key] && !announced[f.SHA256] || archive.RewriteOf(k) > 0 && !counts(k) {
			list = append(list, info.Key)
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// unread are the documents that a survey does without. A name that is none of an
// archive's names no file.
func unread(s *archive.Survey) error {
	return errors.Join(slices.DeleteFunc(slices.Clone(s.Faults), func(err error) bool { return errors.As(err, new(*archive.KeyError)) })...)
}

// needed are the files of the checkpoints that count.
func (e *execution) needed(ctx context.Context) (map[string]bool, error) {
	out := map[string]bool{}
	for i := range e.s.Checkpoints {
		m, err := e.a.Manifest(ctx, e.s.Checkpoints[i].Key())
		if missing := (*archive.MissingError)(nil); errors.As(err, &missing) {
			continue
		} else if err != nil {
			return nil, err
		}
		for j := range m.Files {
			out[m.Files[j].Key().String()] = true
		}
	}
	return out, nil
}

// Describe is a plan in words.
func (p *Plan) Describe() string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%d keys of %s, %d frames to redact (%d of them blanked), %d objects of the log, %d checkpoints, %d bytes to rewrite",
		p.Keys, p.Schema, p.Frames, p.Blanked, len(p.Objects), len(p.Checkpoints), p.Bytes)
	return b.String()
}
