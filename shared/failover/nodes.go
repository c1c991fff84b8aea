package failover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"originchain/shared/registry"
)

// Keys of the registry.
const (
	nodePrefix  = "nodes/"
	journalKey  = "failover"
	reportKey   = "last_failover"
	maxRewrites = 32 // of one document, while others write it
)

const (
	// storeTries is how often a store is asked that fails, at a distance of storePause: a
	// failover is not given up for one lost packet.
	storeTries = 4
	storePause = 100 * time.Millisecond
)

// steadily asks a store until it answers, storeTries times at most.
func steadily(ctx context.Context, ask func() error) error {
	for try := 1; ; try++ {
		err := ask()
		if err == nil || try == storeTries || ctx.Err() != nil || final(err) {
			return err
		}
		pause := time.NewTimer(storePause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

// final says that a store has answered, and would answer so again.
func final(err error) bool {
	var changed *registry.ConflictError
	var maybe *registry.OutcomeUnknownError
	return errors.As(err, &changed) || errors.As(err, &maybe) || again(err)
}

// Nodes are the nodes of the instance, by id.
func Nodes(ctx context.Context, reg registry.Store) (out []Node, err error) {
	var docs []registry.Document
	err = steadily(ctx, func() error { docs, err = reg.List(ctx, nodePrefix); return err })
	if err != nil {
		return nil, fmt.Errorf("list the nodes in the registry: %w", err)
	}
	for _, d := range docs {
		var n Node
		if err := json.Unmarshal(d.Body, &n); err != nil {
			return nil, fmt.Errorf("%s in the registry: %w; register the node again", d.Key, err)
		}
		out = append(out, n)
	}
	return out, nil
}

// SaveNode registers a node, or what has changed of it.
func SaveNode(ctx context.Context, reg registry.Store, n Node) error {
	if n.ID == "" || n.URL == "" || n.OpsURL == "" {
		return fmt.Errorf("register node %q: it needs an id, a URL and an ops URL", n.ID)
	}
	err := rewrite(ctx, reg, nodePrefix+n.ID, func(now *Node) bool {
		changed := *now != n
		*now = n
		return changed
	})
	if err != nil {
		return fmt.Errorf("register node %s: %w", n.ID, err)
	}
	return nil
}

// UnknownNodeError says that the registry has no such node.
type UnknownNodeError struct {
	Asked string
	Known []string
}

// Error implements error.
func (e *UnknownNodeError) Error() string {
	return fmt.Sprintf("the registry has no node %q; it has %s", e.Asked, strings.Join(e.Known, ", "))
}

// find is the node of an id, or of a machine's name.
func find(nodes []Node, asked string) (Node, error) {
	unknown := &UnknownNodeError{Asked: asked}
	for _, n := range nodes {
		if n.ID == asked || n.Machine == asked {
			return n, nil
		}
		unknown.Known = append(unknown.Known, n.ID)
	}
	return Node{}, unknown
}

func load(ctx context.Context, reg registry.Store, key string) (doc registry.Document, err error) {
	err = steadily(ctx, func() error { doc, err = reg.Load(ctx, key); return err })
	return doc, err
}

// rewrite changes a document by compare-and-set: change is asked again about whatever
// stands there, and says whether it has changed anything. An unknown outcome is read
// back. The document's zero value stands for one that is not there.
func rewrite[T any](ctx context.Context, reg registry.Store, key string, change func(*T) bool) error {
	var last error
	for range maxRewrites {
		doc, err := load(ctx, reg, key)
		if err != nil {
			return err
		}
		var now T
		if doc.Version > 0 {
			if err := json.Unmarshal(doc.Body, &now); err != nil {
				return fmt.Errorf("%s in the registry is not what it should be: %w", key, err)
			}
		}
		if !change(&now) {
			return nil
		}
		body, err := json.Marshal(now)
		if err != nil {
			return err
		}
		last = steadily(ctx, func() error { _, err := reg.Save(ctx, key, doc.Version, body); return err })
		var conflict *registry.ConflictError
		var unknown *registry.OutcomeUnknownError
		if last == nil || !errors.As(last, &conflict) && !errors.As(last, &unknown) {
			return last
		}
	}
	return fmt.Errorf("%d times somebody else wrote it first: %w", maxRewrites, last)
}
