package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"originchain/shared/engine"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	recovery "originchain/shared/recover"
	"originchain/shared/schema"
	"originchain/shared/table"
	"originchain/test/oracle"
)

// evidence is what the clients knew at the instant the power went.
type evidence struct {
	hist *history
	acks []ack
	said []*proposal
}

// newcomer is the client that writes after a reopening.
const newcomer = 1000

// examine opens what a crash or a failure left, holds it to the evidence and
// lets clients go on. It returns the log as they leave it, folded. opened, if
// set, is called when the directory is open.
func (ev *evidence) examine(fs vfs.FS, seed uint64, opened func()) (f *folded, err error) {
	cfg := config()
	// What the clients add must still be in the log when it is read: with
	// segments this large nothing rolls, and so nothing is trimmed, meanwhile.
	cfg.SegmentBytes = 8 * segmentBytes
	e, err := engine.Open(context.Background(), cfg, deps(fs, seed))
	if err != nil {
		return nil, fmt.Errorf("the directory does not open: %w", err)
	}
	if opened != nil {
		opened()
	}
	if f, err = ev.judge(fs, e); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	r := serve(e)
	defer func() { err = errors.Join(err, r.close()) }()
	if err := ev.goOn(r, f, seed); err != nil {
		return nil, err
	}
	if err := f.extend(r.Log()); err != nil {
		return nil, fmt.Errorf("the log after the reopening: %w", err)
	}
	return f, hold(r.Engine, f)
}

// reopen opens what an examination has left after a clean stop: nothing may be
// missing or added.
func (f *folded) reopen(fs vfs.FS, seed uint64) error {
	e, err := engine.Open(context.Background(), config(), deps(fs, seed))
	if err != nil {
		return fmt.Errorf("the directory does not open again: %w", err)
	}
	if err = f.extend(e.Log()); err == nil {
		err = hold(e, f)
	}
	return errors.Join(err, e.Close())
}

// judge holds the recovered log and state to what was said and heard.
func (ev *evidence) judge(fs vfs.FS, e *engine.Engine) (*folded, error) {
	f, err := ev.hist.foldLog(fs, e.Log())
	if err != nil {
		return nil, fmt.Errorf("the recovered log: %w", err)
	}
	boot := e.BootLSN()
	if f.Last.LSN != boot+1 || f.kinds[boot] != frame.KindEpoch || f.Last.Epoch != e.Epoch() {
		return nil, fmt.Errorf("the opening at LSN %d left a log that ends at %d in epoch %d, want one frame of epoch %d", boot, f.Last.LSN, f.Last.Epoch, e.Epoch())
	}
	whose, err := ev.attribute(f)
	if err != nil {
		return nil, err
	}
	for _, a := range ev.acks {
		if a.pos.LSN > boot {
			return nil, fmt.Errorf("%s was answered at %s and is lost: the log ends at %d", a.p, a.pos, boot)
		}
		if a.framed && whose[a.pos.LSN] != a.p {
			return nil, fmt.Errorf("%s was answered at %s, where %v stands", a.p, a.pos, whose[a.pos.LSN])
		}
	}
	return f, hold(e, f)
}

// hold compares the state with the folded log, in full.
func hold(e *engine.Engine, f *folded) (err error) {
	snap, err := e.Snapshot()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	at := snap.Applied()
	if at.Pos.LSN != f.Last.LSN || at.Chain != f.Chain || at.Digest != f.Last.Digest {
		return fmt.Errorf("the state stands at %s digest %s, the log ends at %d digest %s", at.Pos, at.Digest, f.Last.LSN, f.Last.Digest)
	}
	if err := f.Compare(snap); err != nil {
		return err
	}
	if err := f.Check(); err != nil {
		return err
	}
	_, err = recovery.VerifyFull(snap)
	return err
}

// attribute finds, for every frame, whose request it is. A frame that nobody
// asked for, that means something else than what was asked, that comes twice or
// out of its client's order, is a fault.
func (ev *evidence) attribute(f *folded) (map[lsn.LSN]*proposal, error) {
	asked := map[[2]int]*proposal{}
	builds := map[string]bool{}
	for _, p := range ev.said {
		asked[[2]int{p.client, p.seq}] = p
		if p.builds != "" {
			builds[oracle.TableName(p.builds)] = true
		}
	}
	whose, last := map[lsn.LSN]*proposal{}, map[int]int{}
	for i, effects := range f.effects {
		at := lsn.LSN(i + 1)
		client, seq, ok := journaled(effects)
		switch {
		case !ok && f.kinds[i] != frame.KindData && len(effects) == 0:
		case !ok:
			if err := unsigned(effects, builds); err != nil {
				return nil, fmt.Errorf("LSN %d: %w", at, err)
			}
		default:
			p := asked[[2]int{client, seq}]
			if p == nil || p.effects.Load() == nil {
				return nil, fmt.Errorf("LSN %d: request %d of client %d was never made", at, seq, client)
			}
			if seq <= last[client] {
				return nil, fmt.Errorf("LSN %d: %s after request %d", at, p, last[client])
			}
			if diff := cmp.Diff(*p.effects.Load(), effects); diff != "" {
				return nil, fmt.Errorf("LSN %d: %s means something else (-asked +logged):\n%s", at, p, diff)
			}
			whose[at], last[client] = p, seq
		}
	}
	return whose, nil
}

// journaled reads from the journal's row whose frame it is.
func journaled(effects oracle.Effects) (client, seq int, ok bool) {
	for name, value := range effects {
		if strings.HasPrefix(name, "row sim.journal ") {
			n, err := fmt.Sscanf(value, "i64 %d, i64 %d", &client, &seq)
			return client, seq, n == 2 && err == nil
		}
	}
	return 0, 0, false
}

// unsigned accepts the frames that come without a row of the journal: those
// that set the tables up, and those that build an index or take it away, which
// change no row.
func unsigned(effects oracle.Effects, builds map[string]bool) error {
	for name := range effects {
		if !setup[name] && !builds[name] {
			return fmt.Errorf("nobody asked for %s", name)
		}
	}
	return nil
}

// goOn is what clients do with a reopened engine: some repeat requests whose
// answer they have, some those that were never answered, and new ones come.
func (ev *evidence) goOn(r *run, f *folded, seed uint64) error {
	answered := map[*proposal]bool{}
	for _, a := range ev.acks {
		answered[a.p] = true
	}
	repeated := 0
	for i := len(ev.acks) - 1; i >= 0 && repeated < 3; i-- {
		if a := ev.acks[i]; a.p.idem != "" {
			if err := repeat(r, a.p, a.answer); err != nil {
				return err
			}
			repeated++
		}
	}
	if err := ev.askAgain(r, f, answered); err != nil {
		return err
	}
	if err := ev.write(r, seed); err != nil {
		return err
	}
	return tidied(r, f)
}

// tidyPatience is how many commits an unfinished index may see before it goes.
const tidyPatience = 10_000

// tidied requires that an index whose build the crash cut short goes away by
// itself while others write.
func tidied(r *run, f *folded) error {
	left := map[uint32]bool{}
	f.Tables(func(t *oracle.Table) {
		for _, ix := range t.Indexes {
			left[ix.ID] = left[ix.ID] || ix.Building && t.Schema.ID == "sim.customers"
		}
	})
	c := newClient(newcomer+1, 1, &record{})
	for range tidyPatience {
		t, err := r.table("sim.customers")
		if err != nil {
			if refused(err) {
				return nil
			}
			return err
		}
		if !slices.ContainsFunc(t.Indexes, func(ix schema.Index) bool { return left[ix.ID] && !ix.Ready }) {
			return nil
		}
		// The log may be trimmed meanwhile, so it is folded as it grows.
		if err := errors.Join(c.putRecord(r), f.extend(r.Log())); err != nil {
			return err
		}
	}
	return errors.New("an unfinished index stays")
}

// askAgain sends requests that were not answered: if their frame is there they
// get its answer, else they run, once.
func (ev *evidence) askAgain(r *run, f *folded, answered map[*proposal]bool) error {
	done := 0
	for i := len(ev.said) - 1; i >= 0 && done < 3; i-- {
		p := ev.said[i]
		if p.idem == "" || answered[p] || p.again == nil {
			continue
		}
		done++
		_, logged := f.Pairs[string(table.IdemKey(tenant, p.idem))]
		out, err := p.again(r, p.copy())
		switch {
		case logged && (err != nil || out.Stored == nil):
			return fmt.Errorf("%s is in the log and, repeated, was answered %+v, %w", p, out, err)
		case !logged && err == nil && out.Stored != nil:
			return fmt.Errorf("%s is not in the log and, repeated, got an old answer", p)
		case err != nil && !errors.Is(err, errExecuted) && !refused(err):
			return fmt.Errorf("%s repeated: %w", p, err)
		}
		if err == nil && out.Stored == nil {
			if err := repeat(r, p, string(answerBody(out.Pos))); err != nil {
				return err
			}
		}
	}
	return nil
}

// write sends new requests; each must succeed, in the new epoch, above the
// one before it.
func (ev *evidence) write(r *run, seed uint64) error {
	if _, err := r.table("sim.journal"); err != nil {
		if refused(err) {
			return nil // the power went before the tables were made
		}
		return err
	}
	rec := &record{}
	c := newClient(newcomer, seed, rec)
	for range 3 {
		if err := c.putRecord(r); err != nil {
			return fmt.Errorf("a new request after the reopening: %w", err)
		}
	}
	acks := rec.heard()
	for i, a := range acks {
		if a.pos.Epoch != r.Epoch() || i > 0 && a.pos.LSN <= acks[i-1].pos.LSN {
			return fmt.Errorf("new requests after the reopening in epoch %d were answered at %s, the one before at %s", r.Epoch(), a.pos, acks[max(0, i-1)].pos)
		}
	}
	return nil
}

// cutRand draws what survives of a crash.
func cutRand(seed uint64, n int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(n))) }
