package gate

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// maxConnections bounds what one relay carries at once; more wait to be accepted.
	maxConnections = 64
	// acceptPause is before another try when the process is out of files.
	acceptPause = 100 * time.Millisecond
)

// Relay carries connections that l accepts to a TCP address, through the gate, until ctx
// ends; then it closes l and all of them, and waits for that. Per connection and
// direction it holds as much as one copy takes, and while the gate is cut no more is read.
func (g *Gate) Relay(ctx context.Context, l net.Listener, to string) error {
	var carrying sync.WaitGroup
	defer carrying.Wait()
	ctx, end := context.WithCancel(ctx)
	defer end()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	room := make(chan struct{}, maxConnections)
	for {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		from, err := l.Accept()
		if err == nil {
			carrying.Go(func() {
				g.carry(ctx, from, to)
				<-room
			})
			continue
		}
		<-room
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		}
		select {
		case <-time.After(acceptPause):
		case <-ctx.Done():
		}
	}
}

// carry carries one connection until both sides have said all, or one of them breaks.
func (g *Gate) carry(ctx context.Context, from net.Conn, to string) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	stop := context.AfterFunc(ctx, func() { _ = from.Close() })
	defer stop()
	defer func() { _ = from.Close() }()
	up, err := g.Dial(ctx, "tcp", to)
	if err != nil {
		return // nobody is there: whoever came finds the connection closed
	}
	stopUp := context.AfterFunc(ctx, func() { _ = up.Close() })
	defer stopUp()
	defer func() { _ = up.Close() }()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{up, from}, {from, up}} {
		both.Go(func() {
			if !pour(way[0], way[1]) {
				end() // what breaks on one side breaks on the other
			}
		})
	}
	both.Wait()
}

// pour copies until src ends, and ends dst then: false if either breaks.
func pour(dst, src net.Conn) bool {
	if _, err := io.Copy(dst, src); err != nil {
		return false
	}
	half, ok := dst.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}
