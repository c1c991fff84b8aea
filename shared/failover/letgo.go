package failover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"originchain/shared/lease"
)

// HeldError says why a server that a failover may have stopped is not started again.
type HeldError struct{ Node, Why string }

// Error implements error.
func (e *HeldError) Error() string { return fmt.Sprintf("%s is not started: %s", e.Node, e.Why) }

// LetGo starts the servers again that a run has stopped, or one before it whose LetGo did not
// come to that, and which nothing else starts since. It is for after the run's last step, and
// for where the run does not go on; where a supervisor starts its nodes by itself there is no
// need for it. It can be repeated. A HeldError says that a server is not to be started, other
// errors that nobody knows whether it is; the text of either, or else detail, names all that
// were held, and what became of each.
//
// All are started at once, those that were stopped last first, and each has its own time: a
// machine that was lost in an earlier failover keeps no other from running. A node that is
// not registered any more is forgotten with that: nobody could start it in any later call.
//
// Invariants:
//
//   - Nobody is started beside a writer that may not know of it: the record names the one
//     that was stopped, in the epoch in which it was, and whoever starts takes another; or
//     another node opens an epoch above, or was given it and does not answer, or not with a log
//     that takes writes, while who is held may be the only one that has everything.
//   - What a run that has begun since has stopped, or is to let go, is that one's. A server is
//     noted as started only if it was not stopped again meanwhile, by whoever does the same.
func LetGo(ctx context.Context, d Deps, run string) (detail string, err error) {
	l, err := readHeld(ctx, d, run, new(sync.Mutex))
	switch {
	case err != nil:
		return "", err
	case len(l.held) == 0:
		return "nobody is held: who was stopped was let go before", nil
	}
	said, errs := make([]string, len(l.held)), make([]error, len(l.held))
	eachHeld(l.held, func(i int, s stopped) { said[i], errs[i] = l.start(ctx, s) })
	var started, kept []string
	var unknown, forbidden []error
	for i, err := range errs {
		var held *HeldError
		switch {
		case err == nil:
			started = append(started, said[i])
			continue
		case errors.As(err, &held):
			forbidden = append(forbidden, err)
		default:
			unknown = append(unknown, err)
		}
		kept = append(kept, err.Error())
	}
	if len(kept) == 0 {
		return strings.Join(started, "; "), nil
	}
	if len(unknown) == 0 {
		unknown = forbidden
	}
	return "", &notAllError{told: strings.Join(append(kept, started...), "; "), of: errors.Join(unknown...)}
}

// notAllError says of all that were held what became of them, those first that are held still.
// It is of what is worth another try, where anything is, and else of what is forbidden.
type notAllError struct {
	told string
	of   error
}

// Error implements error.
func (e *notAllError) Error() string { return e.told }

// Unwrap returns what kept some from being started.
func (e *notAllError) Unwrap() error { return e.of }

// eachHeld does something for all that are held, at once: they are the nodes of an instance.
func eachHeld(held []stopped, do func(int, stopped)) {
	room := make(chan struct{}, lease.MaxMembers+1) // the holder is no member
	var all sync.WaitGroup
	for i, s := range held {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			do(i, s)
		})
	}
	all.Wait()
}

// letting is who is held, and by which record they are let go.
type letting struct {
	deps Deps
	// held are those that were stopped last first.
	held []stopped
	// gone is the node whose machine has not answered a stop.
	gone  string
	nodes []Node
	rec   lease.Record
	// noting is whoever writes the journal: those that are let go at once would only be in
	// each other's way.
	noting *sync.Mutex
}

// readHeld reads who is held, and what there is to be known of that; nothing more where
// nobody is.
func readHeld(ctx context.Context, d Deps, run string, noting *sync.Mutex) (*letting, error) {
	j, err := loadJournal(ctx, d.Registry)
	if err != nil {
		return nil, err
	}
	if run == "" || j.Run != run {
		return nil, &HeldError{Node: "what failover " + run + " has stopped", Why: fmt.Sprintf("the failover begun last is %q", j.Run)}
	}
	l := &letting{deps: d, held: j.Held, noting: noting}
	slices.Reverse(l.held)
	if len(l.held) == 0 {
		return l, nil
	}
	if j.Gone {
		l.gone = j.holder()
	}
	if l.nodes, err = Nodes(ctx, d.Registry); err != nil {
		return nil, err
	}
	if err := steadily(ctx, func() error { l.rec, _, err = d.Lease.Load(ctx); return err }); err != nil {
		return nil, fmt.Errorf("%s not started: read the record of who writes: %w", l.names(), err)
	}
	return l, nil
}

// names are all that are held, and a verb.
func (l *letting) names() string {
	var names []string
	for _, s := range l.held {
		names = append(names, s.Node)
	}
	if len(names) == 1 {
		return names[0] + " is"
	}
	return strings.Join(names, ", ") + " are"
}

// start starts a server that was stopped, if that may be, and notes that it was. Of a node
// that is not registered any more it is noted that nobody holds it.
func (l *letting) start(ctx context.Context, s stopped) (detail string, err error) {
	old, unknown := find(l.nodes, s.Node)
	if unknown != nil {
		why := unknown.Error() // as text: it is another error while the registry may not have noted it
		if err := l.runs(ctx, s); err != nil {
			return "", fmt.Errorf("%s is not started: %s; this was not noted in the registry: %w", s.Node, why, err)
		}
		return "", &HeldError{Node: s.Node, Why: why + "; nobody tries it again: start its server on its machine, if there is one"}
	}
	detail, since, err := letGo(ctx, l.deps, s, l.nodes, l.rec)
	if err != nil {
		return "", err
	}
	if !since {
		bound := restartTimeout
		if s.Node == l.gone {
			bound = stopTimeout
		}
		short, cancel := context.WithTimeout(ctx, bound+pace(l.deps.Control))
		defer cancel()
		if err := asOf(l.deps.Control, uint64(l.rec.Epoch)).Start(short, old); err != nil {
			return "", fmt.Errorf("the server of %s may be held, and was not let go: %w", s.Node, err)
		}
	}
	if err := l.runs(ctx, s); err != nil {
		return "", fmt.Errorf("%s is started, which was not noted in the registry: %w", s.Node, err)
	}
	return detail, nil
}

// runs notes that a node is not held any more.
func (l *letting) runs(ctx context.Context, s stopped) error {
	l.noting.Lock()
	defer l.noting.Unlock()
	return rewrite(ctx, l.deps.Registry, journalKey, func(now *journal) bool {
		had := len(now.Held)
		now.runs(s)
		return len(now.Held) < had
	})
}

// letGo says by the record why a node that was stopped may be started; since: it was already.
func letGo(ctx context.Context, d Deps, s stopped, nodes []Node, rec lease.Record) (detail string, since bool, err error) {
	id := s.Node
	switch {
	case rec.Holder == id && uint64(rec.Epoch) == s.Epoch:
		return fmt.Sprintf("%s is started again: nobody has taken its place, and the record names it for epoch %d", id, rec.Epoch), false, nil
	case rec.Holder == id && uint64(rec.Epoch) > s.Epoch && rec.Confirmed():
		return fmt.Sprintf("%s was started since, and has opened epoch %d", id, rec.Epoch), true, nil
	case rec.Holder == id:
		return "", false, &HeldError{Node: id, Why: fmt.Sprintf("the record names it for epoch %d, and what was stopped is its epoch %d", rec.Epoch, s.Epoch)}
	case uint64(rec.Epoch) <= s.Epoch:
		return "", false, &HeldError{Node: id, Why: fmt.Sprintf("the record names %s for epoch %d, and it was stopped in %d", rec.Holder, rec.Epoch, s.Epoch)}
	case rec.Adopted() && !rec.Confirmed():
		return fmt.Sprintf("%s is started, to follow %s, which opens epoch %d", id, rec.Holder, rec.Epoch), false, nil
	case rec.Confirmed():
		return fmt.Sprintf("%s is started, and follows %s, the writer of epoch %d", id, rec.Holder, rec.Epoch), false, nil
	}
	other, err := find(nodes, rec.Holder)
	if err == nil {
		short, cancel := context.WithTimeout(ctx, standingTimeout)
		defer cancel()
		c := &client{http: d.HTTP, token: d.AdminToken}
		_, err = c.standing(short, other)
		if status := c.failingAfter(ctx, other, err); status != 0 {
			return fmt.Sprintf("%s is started: %s was given epoch %d, and answers /health with %d: its log takes no writes; nobody else may have everything", id, rec.Holder, rec.Epoch, status), false, nil
		}
		// One that refuses to say has answered, and opens perhaps.
		if silent := new(silentError); err != nil && !errors.As(heardOf(err), &silent) {
			return "", false, fmt.Errorf("%s is not started: %s was given epoch %d, and nobody knows whether it opens: %w", id, rec.Holder, rec.Epoch, err)
		}
	}
	if err == nil {
		return "", false, &HeldError{Node: id, Why: fmt.Sprintf("%s was given epoch %d, has not confirmed it, and answers: it may be about to write", rec.Holder, rec.Epoch)}
	}
	return fmt.Sprintf("%s is started: %s was given epoch %d, and does not answer (%v); nobody else may have everything", id, rec.Holder, rec.Epoch, err), false, nil
}
