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

// ownArchive makes an empty store the instance's archive, and refuses another's and one
// in another region: before anything is in it, whoever asks, be it for an epoch alone.
func (c *claim) ownArchive(ctx context.Context) error {
	if err := c.reside(ctx); err != nil {
		return err
	}
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
