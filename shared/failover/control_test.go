package failover

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The ports.

func (w *world) on(n Node) (*fakeNode, error) {
	if w.controlAway {
		return nil, errors.New("no instance control")
	}
	for _, f := range w.nodes {
		if f.node.Machine == n.Machine {
			return f, nil
		}
	}
	return nil, fmt.Errorf("no machine %s", n.Machine)
}

func (w *world) asked(what string, n Node) { w.controls = append(w.controls, what+" "+n.ID) }

func (w *world) Process(_ context.Context, n Node) (Process, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := w.on(n)
	if err != nil || w.stopFails {
		return Process{}, errors.New("not known")
	}
	return f.process(), nil
}

func (w *world) Stop(_ context.Context, n Node) (Process, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := w.on(n)
	if w.onStop != nil {
		w.onStop()
	}
	if err != nil || w.stopFails {
		return Process{}, errors.New("the machine does not answer")
	}
	w.asked("stop", n)
	f.held = true
	if f.elsewhere {
		return f.process(), nil // it had ended before, and the other one is not seen
	}
	f.end()
	return f.process(), nil
}

// process is what instance control knows of it, with mu.
func (n *fakeNode) process() Process {
	switch {
	case n.elsewhere:
		return Process{Reaped: n.held, Place: "place-of-a-copy"}
	case n.up:
		return Process{Running: true}
	case !n.held:
		return Process{}
	}
	return Process{Reaped: true, Place: "place-" + n.node.ID}
}

func (w *world) Start(_ context.Context, n Node) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := w.on(n)
	if err != nil {
		return err
	}
	w.asked("start", n)
	f.held = false
	f.start()
	return nil
}

func (w *world) Restart(_ context.Context, n Node) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := w.on(n)
	if err != nil {
		return err
	}
	w.asked("restart", n)
	f.restarts++
	f.end()
	f.held = false
	f.start()
	return nil
}

func (w *world) Unit(_ context.Context, n Node) (string, []byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := w.on(n)
	if err != nil {
		return "", nil, err
	}
	return "oc-http.service", []byte(f.unit), nil
}

func (w *world) Rewrite(_ context.Context, n Node, text []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := w.on(n)
	if err != nil {
		return err
	}
	w.asked("rewrite", n)
	if w.onRewrite != nil {
		w.onRewrite()
	}
	f.unit = string(text)
	return nil
}

func (w *world) Point(_ context.Context, name, address string, ttl time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dnsFails {
		return errors.New("the zone does not answer")
	}
	if ttl != 60*time.Second {
		return fmt.Errorf("TTL %s", ttl)
	}
	w.names[name] = address
	return nil
}
