package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"originchain/shared/durable"
)

const (
	// holdName is the drop-in that holds a unit.
	holdName = "oc-node-hold.conf"
	// holdMark begins its first line, which says whose it is.
	holdMark = "# oc-node stop, until oc-node start: "
	// maxHoldBytes bounds the reading of a drop-in.
	maxHoldBytes = 4 << 10
	// undoTimeout bounds the taking back of a hold, which VerbTimeout leaves room for.
	undoTimeout = 20 * time.Second
)

// Hold is whose a hold is.
type Hold struct {
	// Epoch is that of the record by which the unit was held.
	Epoch uint64 `json:"epoch"`
	// Hand: somebody has done it on the machine.
	Hand bool `json:"hand"`
}

// String implements fmt.Stringer.
func (h Hold) String() string {
	if h.Hand {
		return "by hand"
	}
	return fmt.Sprintf("by the control plane in epoch %d", h.Epoch)
}

// HeldError says that a unit was not started, since somebody holds it whom the command may
// not overrule.
type HeldError struct {
	Unit string
	// By is who holds it; Undo is what lets it go, on the machine.
	By, Undo string
}

// Error implements error.
func (e *HeldError) Error() string {
	return fmt.Sprintf("%s is held %s, and was not started; nothing was changed: %s on its machine lets it go", e.Unit, e.By, e.Undo)
}

func (m *Machine) holdPath() string { return filepath.Join(m.run, m.unit+".d", holdName) }

// Held says whether a hold stands, and whose: a drop-in that says nothing of that is
// somebody's hand's.
func (m *Machine) Held() (h Hold, stands bool, err error) {
	text, err := m.holdText()
	if err != nil || text == nil {
		return Hold{}, false, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	said, ours := strings.CutPrefix(line, holdMark)
	if !ours || json.Unmarshal([]byte(said), &h) != nil {
		h = Hold{Hand: true}
	}
	return h, true, nil
}

// holdText is the drop-in; nil if there is none.
func (m *Machine) holdText() ([]byte, error) {
	text, err := readAtMost(m.holdPath(), maxHoldBytes)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// hold puts the drop-in there, and has systemd know it. Where it fails, and by undo, the
// hold is as it was before: none, or somebody else's. One that was placed by hand stays
// that.
func (m *Machine) hold(ctx context.Context, epoch uint64) (undo func() error, err error) {
	before, err := m.holdText()
	if err != nil {
		return nil, fmt.Errorf("hold %s: %w", m.unit, err)
	}
	// Known before: an undo has to leave it as it was, running or not.
	ran, err := m.show(ctx)
	if err != nil {
		return nil, fmt.Errorf("hold %s: %w; nothing was changed", m.unit, err)
	}
	by, stands, err := m.Held()
	if err != nil {
		return nil, err
	}
	if stands && by.Hand {
		undo = func() error { return nil } // nothing is placed
	} else {
		undo = func() error { return m.unhold(ctx, before, ran) }
		by = Hold{Epoch: epoch, Hand: !m.unattended}
		if err := m.placeHold(by); err != nil {
			return nil, errors.Join(fmt.Errorf("hold %s: %w", m.unit, err), undo())
		}
	}
	if err := m.holds(ctx); err != nil {
		return nil, errors.Join(err, undo())
	}
	return undo, nil
}

// holds has systemd read the hold, and sees that it knows.
func (m *Machine) holds(ctx context.Context) error {
	if err := m.reload(ctx); err != nil {
		return fmt.Errorf("%s is not held, as systemd does not know: %w", m.unit, err)
	}
	st, err := m.show(ctx)
	if err == nil && !slices.Contains(st.dropIns, m.holdPath()) {
		err = fmt.Errorf("systemd has %q of it, and not %s", st.dropIns, m.holdPath())
	}
	if err != nil {
		return fmt.Errorf("%s is not known to be held: %w", m.unit, err)
	}
	return nil
}

func (m *Machine) placeHold(by Hold) error {
	mark, err := json.Marshal(by)
	if err != nil {
		return err
	}
	path := m.holdPath()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	text := holdMark + string(mark) + "\n[Unit]\nAssertPathExists=!" + path + "\n"
	return m.writeHold([]byte(text))
}

func (m *Machine) writeHold(text []byte) error {
	return durable.Replace(durable.OnOS(0o644), m.holdPath(), m.holdPath()+".tmp", text)
}

// unhold puts back what was there before a hold, with all that this has changed: a server
// that ended meanwhile, which systemd would have started again, is started. It has some time
// of its own if the command's is over.
func (m *Machine) unhold(ctx context.Context, before []byte, ran *state) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	var err error
	if before != nil {
		err = m.writeHold(before)
	} else {
		err = m.removeHold()
	}
	if err != nil {
		return fmt.Errorf("the hold of %s stands, and could not be taken back: %w; oc-node start lifts it", m.unit, err)
	}
	if err := m.reload(ctx); err != nil {
		return fmt.Errorf("the hold of %s was taken back, and systemd does not know yet: %w", m.unit, err)
	}
	st, err := m.show(ctx)
	if err == nil && before == nil && ran.up() && !st.up() {
		err = m.act(ctx, "start")
	}
	if err != nil {
		return fmt.Errorf("the hold of %s was taken back, and it is not known to run as it did: %w", m.unit, err)
	}
	return nil
}

func (m *Machine) removeHold() error {
	if err := os.Remove(m.holdPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	_ = os.Remove(filepath.Dir(m.holdPath())) // it may hold somebody else's, or not be there
	return nil
}

// mayLift says whether a command of an epoch may lift what holds the unit. One by hand
// lifts every hold of oc-node; one that nobody stands by only what such a one has placed,
// in its epoch or before. What somebody has masked nobody unmasks here.
func (m *Machine) mayLift(epoch uint64) error {
	if target, err := os.Readlink(filepath.Join(m.run, m.unit)); err == nil && target == os.DevNull {
		return &HeldError{Unit: m.unit, By: "by a mask in " + m.run, Undo: "systemctl unmask --runtime"}
	}
	by, stands, err := m.Held()
	if err != nil {
		return fmt.Errorf("lift the hold of %s: %w; nothing was changed", m.unit, err)
	}
	if stands && m.unattended && (by.Hand || by.Epoch > epoch) {
		return &HeldError{Unit: m.unit, By: by.String(), Undo: "oc-node start"}
	}
	return nil
}

// lift takes the hold away, has systemd read the unit, and forget how often it failed.
func (m *Machine) lift(ctx context.Context) error {
	if err := m.removeHold(); err != nil {
		return fmt.Errorf("lift the hold of %s: %w", m.unit, err)
	}
	if err := m.reload(ctx); err != nil {
		return err
	}
	st, err := m.show(ctx)
	if err == nil && st.active == "failed" {
		_, err = m.systemctl(ctx, askTimeout, "reset-failed", m.unit)
	}
	return err
}
