package plane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/sirupsen/logrus"
)

// headerTimeout bounds how long a connection may take to say what it wants.
const headerTimeout = 10 * time.Second

// idleTimeout is when a connection that asks for nothing is closed. Without it a client
// that forgets its connections takes one after the other of the control plane's files,
// which it needs to answer for DNS and the lease too.
const idleTimeout = 2 * time.Minute

// served is a server of the plane, until ctx ends.
type served struct {
	what, address string
	handler       http.Handler
	listener      net.Listener
	// relay serves instead of handler, where there is one.
	relay func(ctx context.Context, l net.Listener) error
}

// listen opens what has an address of its own; a listener that is there is used.
func (s *served) listen() (err error) {
	if s.listener != nil {
		return nil
	}
	if s.listener, err = net.Listen("tcp", s.address); err != nil {
		return fmt.Errorf("listen for %s: %w; what holds that address must end first, or remove instance.json to have other addresses chosen (the nodes' data stays)", s.what, err)
	}
	return nil
}

// run serves until ctx ends, then closes every connection.
func (s *served) run(ctx context.Context, log logrus.FieldLogger) error {
	if s.relay != nil {
		return s.relay(ctx, s.listener)
	}
	server := &http.Server{Handler: s.handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, ErrorLog: nil, BaseContext: func(net.Listener) context.Context { return ctx }}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(s.listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", s.what, err)
	case <-ctx.Done():
	}
	err := server.Close()
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		log.WithError(err).Warnf("the server of %s did not end in order", s.what)
	}
	return nil
}
