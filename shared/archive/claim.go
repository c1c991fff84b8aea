package archive

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/wal"
)

// Claimant is who wants to write an archive.
type Claimant struct {
	Instance         ulid.ULID
	Node             string
	Region           string
	AllowCrossRegion bool
	Now              func() time.Time // nil is time.Now
	Rand             io.Reader        // nil is crypto/rand
}

// claim makes the documents that have to be there before anything of an epoch is.
type claim struct {
	a   *Archive
	who Claimant
}

func (c *claim) now() time.Time {
	if c.who.Now == nil {
		return moment(time.Now())
	}
	return moment(c.who.Now())
}

func (c *claim) newHead() Head { return Head{Format: format, Instance: c.who.Instance} }

func (c *claim) nonce() (string, error) {
	src := c.who.Rand
	if src == nil {
		src = rand.Reader
	}
	var b [16]byte
	if _, err := io.ReadFull(src, b[:]); err != nil {
		return "", fmt.Errorf("draw a nonce: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// putDocument creates a document; taken says that its name was taken.
func (a *Archive) putDocument(ctx context.Context, k Key, d document) (taken bool, err error) {
	b, err := encode(d)
	if err != nil {
		return false, fmt.Errorf("make %s: %w", k, err)
	}
	err = a.store.Put(ctx, k.String(), object.Bytes(b))
	if errors.Is(err, object.ErrExists) {
		return true, nil
	}
	return false, err
}

// ownArchive makes an empty store the instance's archive, and refuses another's.
func (c *claim) ownArchive(ctx context.Context) error {
	d, err := c.a.Instance(ctx)
	var missing *MissingError
	if errors.As(err, &missing) {
		own := Instance{Head: c.newHead(), Region: c.who.Region, Time: c.now()}
		if _, err := c.a.putDocument(ctx, InstanceKey{}, &own); err != nil {
			return err
		}
		d, err = c.a.Instance(ctx)
	}
	if err != nil {
		return err
	}
	store := c.a.store.String()
	switch {
	case d.Instance != c.who.Instance:
		return &ForeignError{Store: store, Key: instanceName, Theirs: d.Instance, Ours: c.who.Instance}
	case d.Region != c.who.Region && !c.who.AllowCrossRegion:
		return &RegionError{Store: store, Theirs: d.Region, Ours: c.who.Region}
	}
	return nil
}

// ensureEpoch creates the object of an epoch unless it is there, and holds what is
// there against what the log of this node says. Another beginning is a fence: two
// histories of one epoch.
func (c *claim) ensureEpoch(ctx context.Context, e wal.EpochStart) error {
	k := EpochKey{e.Epoch}
	d, err := c.a.Epoch(ctx, k)
	var missing *MissingError
	if errors.As(err, &missing) {
		var nonce string
		if nonce, err = c.nonce(); err != nil {
			return err
		}
		own := c.epochOf(e, nonce)
		if _, err := c.a.putDocument(ctx, k, &own); err != nil {
			return err
		}
		d, err = c.a.Epoch(ctx, k)
	}
	if err != nil {
		return err
	}
	if d.Instance != c.who.Instance {
		return &ForeignError{Store: c.a.store.String(), Key: k.String(), Theirs: d.Instance, Ours: c.who.Instance}
	}
	if !sameBeginning(&d, e) {
		return &FencedError{Own: e.Epoch, Epoch: e.Epoch, Key: k.String()}
	}
	return nil
}

func (c *claim) epochOf(e wal.EpochStart, nonce string) Epoch {
	return Epoch{Head: c.newHead(), Epoch: e.Epoch, Parent: e.Parent, FirstLSN: e.First, ParentChain: e.PrevChain, Node: c.who.Node, Time: c.now(), Nonce: nonce}
}

// sameBeginning compares an object with a log. A side that does not hold the epoch's
// beginning any more says where it has it from, and can only be compared there.
func sameBeginning(d *Epoch, e wal.EpochStart) bool {
	theirs, ours := d.Parent == 0 && d.FirstLSN > 1, e.Parent == 0 && e.First > 1
	switch {
	case d.FirstLSN == e.First:
		return d.ParentChain == e.PrevChain && (d.Parent == e.Parent || theirs || ours)
	case ours && d.FirstLSN < e.First:
		return true
	case theirs && d.FirstLSN > e.First:
		return true
	}
	return false
}

// allotTries bounds how often AllotEpoch tries before it gives the error back.
const allotTries = 8

// AllotEpoch takes the next epoch of an instance that has no lease record: the one
// who creates its object has it. It is above atLeast and above every epoch of the
// archive. line are the epochs of the node's log, whose objects come first; the new
// one begins behind at, the end of that log.
func AllotEpoch(ctx context.Context, store object.Store, who Claimant, line []wal.EpochStart, at wal.Tail, atLeast lsn.Epoch) (lsn.Epoch, error) {
	c := claim{a: New(store), who: who}
	nonce, err := c.nonce()
	if err != nil {
		return 0, err
	}
	backoff := firstBackoff
	for try := 1; ; try++ {
		epoch, err := c.allot(ctx, line, at, atLeast, nonce)
		if err == nil || permanent(err) || try == allotTries || ctx.Err() != nil {
			return epoch, err
		}
		if err := sleep(ctx, backoff); err != nil {
			return 0, err
		}
		backoff *= 2
	}
}

// allot is one try. The nonce is that of all tries: an object that carries it is one
// that a try created whose answer was lost.
func (c *claim) allot(ctx context.Context, line []wal.EpochStart, at wal.Tail, atLeast lsn.Epoch, nonce string) (lsn.Epoch, error) {
	if err := c.ownArchive(ctx); err != nil {
		return 0, err
	}
	for _, e := range line {
		if err := c.ensureEpoch(ctx, e); err != nil {
			return 0, err
		}
	}
	list, err := keys[EpochKey](ctx, c.a, epochPrefix, "", nil)
	if err != nil {
		return 0, err
	}
	highest := atLeast
	for _, k := range list {
		highest = max(highest, k.Key.Epoch)
	}
	if highest > atLeast {
		if d, err := c.a.Epoch(ctx, EpochKey{highest}); err == nil && d.Nonce == nonce {
			return highest, nil
		} else if err != nil && !told(err) {
			return 0, err
		}
	}
	own := c.epochOf(wal.EpochStart{Epoch: highest + 1, Parent: at.Pos.Epoch, First: at.Pos.LSN + 1, PrevChain: at.Chain}, nonce)
	taken, err := c.a.putDocument(ctx, EpochKey{own.Epoch}, &own)
	if err != nil {
		return 0, err
	}
	if !taken {
		return own.Epoch, nil
	}
	d, err := c.a.Epoch(ctx, EpochKey{own.Epoch})
	switch {
	case err != nil:
		return 0, err
	case d.Nonce == nonce:
		return own.Epoch, nil
	}
	return 0, fmt.Errorf("epoch %d was taken by node %s a moment before", own.Epoch, d.Node)
}
