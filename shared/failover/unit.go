package failover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"originchain/shared/unitfile"
)

const (
	// unitTimeout bounds the reading of one unit, and its rewriting.
	unitTimeout = 5 * time.Second
	// unitPatience is how long the writer's unit is waited for once everything else is
	// ready: its machine may be gone. One that did not answer a stop is not waited for.
	unitPatience = time.Second
)

// unitRead is a unit file that was asked for.
type unitRead struct {
	name string
	text []byte
	err  error
}

// readUnit asks for a node's unit before it is needed: nothing waits for it until then.
func (r *run) readUnit(n Node) <-chan unitRead {
	out := make(chan unitRead, 1)
	r.reading.Go(func() {
		ctx, cancel := context.WithTimeout(r.readCtx, unitTimeout+pace(r.deps.Control))
		defer cancel()
		var u unitRead
		if n.Machine == "" {
			u.err = fmt.Errorf("the registry does not say on which machine %s is", n.ID)
		} else {
			u.name, u.text, u.err = r.deps.Control.Unit(ctx, n)
		}
		out <- u
	})
	return out
}

// unit makes the target's unit that of a writer. What cannot be done is left: the new
// writer writes without it, and a node that starts as a follower and is named by the
// record can be promoted again.
func (r *run) unit(ctx context.Context) (detail string, err error) {
	own := <-r.ownUnit
	if own.err != nil { // once more: it was asked for while others were asked for much
		short, cancel := context.WithTimeout(ctx, unitTimeout+pace(r.deps.Control))
		defer cancel()
		if own.name, own.text, own.err = r.deps.Control.Unit(short, r.to); own.err != nil {
			return "", leave("the unit of %s cannot be read, and says follower at its next start: %w", r.to.ID, own.err)
		}
	}
	text, told, err := deriveUnit(own, r.writerUnit(ctx), r.deps.Flags)
	if err != nil {
		return "", leave("%w; %s says follower at its next start: rewrite it by hand", err, own.name)
	}
	for _, t := range told {
		r.tell("%s", t)
	}
	switch {
	case bytes.Equal(text, own.text):
		return own.name + " is a writer's already", nil
	case r.req.DryRun:
		return own.name + " would be rewritten: " + command(own.name, text), nil
	}
	short, cancel := context.WithTimeout(ctx, unitTimeout+pace(r.deps.Control))
	defer cancel()
	epoch := uint64(r.seen.Record.Epoch)
	if r.given {
		epoch = r.epoch
	}
	if err := asOf(r.deps.Control, epoch).Rewrite(short, r.to, text); err != nil {
		return "", leave("%s of %s was not rewritten, and says follower at its next start: %w", own.name, r.to.ID, err)
	}
	return own.name + " is a writer's", nil
}

// writerUnit is the old writer's unit, as far as it comes in time.
func (r *run) writerUnit(ctx context.Context) unitRead {
	if r.oldUnit == nil {
		return unitRead{err: errors.New("its machine was not asked, as it did not answer before")}
	}
	patience := unitPatience + pace(r.deps.Control)
	if r.gone {
		patience = 0 // it was asked before its machine was told to stop, and had that time
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case u := <-r.oldUnit:
		return u
	case <-late.C:
		select {
		case u := <-r.oldUnit: // in time, if not seen in time
			return u
		default:
		}
		return unitRead{err: errors.New("its machine has not answered in time")}
	case <-ctx.Done():
		return unitRead{err: ctx.Err()}
	}
}

// command is what a unit runs, for people.
func command(name string, text []byte) string {
	f, err := unitfile.Parse(name, text)
	if err != nil {
		return err.Error()
	}
	c, err := f.Command()
	if err != nil {
		return err.Error()
	}
	return strings.Join(c.Words, " ")
}

// followerFlags are what makes a follower of a node.
func followerFlags() []string { return []string{"mode", "leader-addr"} }

// writersFlags are of the instance and not of a node: what the old writer has of them,
// the new one has.
func writersFlags() []string {
	return []string{
		"sync-replicas", "sync-timeout-ms", "sync-strict", "llm-url", "llm-model", "llm-key-file",
		"tail-ship", "tail-window-ms", "checkpoint-interval", "retention", "segment-bytes", "segment-max-age", "follower-retain-bytes",
	}
}

// sharedFlags are a node's own where it has them, and else the old writer's: without
// them the new one could not be a writer of the instance.
func sharedFlags() []string {
	return []string{"archive", "control", "replication-tls-dir", "tls-cert", "tls-key", "tls-ca", "otlp-endpoint"}
}

// deriveUnit is a target's unit as a writer's: its own one without what makes a follower
// of it, with what the old writer's has of the instance. told are what a person should
// know. A second time it changes nothing.
func deriveUnit(own, writers unitRead, takes func(string) (bool, bool)) (text []byte, told []string, err error) {
	f, err := unitfile.Parse(own.name, own.text)
	if err != nil {
		return nil, nil, err
	}
	c, err := f.Command()
	if err != nil {
		return nil, nil, err
	}
	flags, err := c.Flags(takes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", own.name, err)
	}
	change := unitfile.Change{Drop: followerFlags()}
	theirs, err := writerFlags(writers, takes)
	if err != nil {
		told = append(told, fmt.Sprintf("the old writer's unit is not known, and %s keeps its own flags of replication: %v", own.name, err))
	}
	for _, flag := range theirs {
		has := slices.ContainsFunc(flags, func(mine unitfile.Flag) bool { return mine.Name == flag.Name })
		if !slices.Contains(writersFlags(), flag.Name) && (has || !slices.Contains(sharedFlags(), flag.Name)) {
			continue
		}
		value, err := literal(flag.Value)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: --%s is %w", writers.name, flag.Name, err)
		}
		change.Set = append(change.Set, unitfile.Setting{Name: flag.Name, Value: value})
	}
	if followsByVariable(f) {
		// A flag goes before the variable, which may be in a file that others use.
		change.Drop, change.Set = []string{"leader-addr"}, append(change.Set, unitfile.Setting{Name: "mode", Value: roleWriter})
	}
	out, err := f.WithFlags(change, takes)
	if err != nil {
		return nil, nil, err
	}
	return out.Text(), told, nil
}

// writerFlags are the flags of a unit, the last of each name.
func writerFlags(u unitRead, takes func(string) (bool, bool)) (out []unitfile.Flag, err error) {
	if u.err != nil {
		return nil, u.err
	}
	f, err := unitfile.Parse(u.name, u.text)
	if err != nil {
		return nil, err
	}
	c, err := f.Command()
	if err != nil {
		return nil, err
	}
	flags, err := c.Flags(takes)
	if err != nil {
		return nil, err
	}
	for _, flag := range flags {
		out = slices.DeleteFunc(out, func(o unitfile.Flag) bool { return o.Name == flag.Name })
		out = append(out, flag)
	}
	return out, nil
}

// literal is the value that a unit's word means, where it means the same in every unit.
func literal(word string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		c := word[i]
		if c == '%' || c == '$' {
			if i+1 == len(word) || word[i+1] != c {
				return "", fmt.Errorf("%q, which means something only in that unit; write it out", word)
			}
			i++
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

// followsByVariable says whether the unit's own variables make a follower of it.
func followsByVariable(f *unitfile.File) bool {
	env, err := f.Environment(nil, func(string) ([]byte, error) { return nil, nil })
	return err == nil && env["OC_MODE"] == roleFollower
}
