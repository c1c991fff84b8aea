package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// maxSocketName is what the kernel takes as the name of a socket.
const maxSocketName = 107

// DownError says that nothing has the instance up.
type DownError struct{ Socket string }

// Error implements error.
func (e *DownError) Error() string {
	dir := filepath.Dir(e.Socket)
	return fmt.Sprintf("no instance is up in %s; start one with: oc-control up --dir %s", dir, dir)
}

// Listen opens the socket at path, replacing one that nobody listens at: the caller
// holds the lock of the directory.
func Listen(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	near, done, err := nearby(path)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: near, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // near may be gone by then
	return l, os.Chmod(path, 0o600)
}

// nearby gives a name for a path that the kernel takes, however long the path is: of a
// directory that is open.
func nearby(path string) (name string, done func(), err error) {
	if len(path) <= maxSocketName {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + filepath.Base(path), func() { _ = dir.Close() }, nil
}

// Client calls a plane.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient calls the plane that listens at a socket.
func NewClient(socket string) *Client {
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			name, done, err := nearby(socket)
			if err != nil {
				return nil, err
			}
			defer done()
			return (&net.Dialer{}).DialContext(ctx, "unix", name)
		},
	}}}
}

// Status asks what the instance looks like.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/status", nil, &s)
}

// Down ends the instance. It returns at once: the lock says when it is over.
func (c *Client) Down(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/down", nil, nil)
}

// Fault does something to the writer. Its name and id are there also with an error, for
// Undo: it may have been made, or be made yet.
func (c *Client) Fault(ctx context.Context, fault string) (Fault, error) {
	asked := Fault{ID: rand.Text(), Fault: fault}
	var f Fault
	if err := c.call(ctx, http.MethodPost, "/fault/"+fault+"/"+asked.ID, nil, &f); err != nil {
		return asked, err
	}
	return f, nil
}

// Undo ends a fault that goes on.
func (c *Client) Undo(ctx context.Context, f Fault) error {
	return c.call(ctx, http.MethodPost, "/undo", f, nil)
}

// Point implements failover.DNS.
func (c *Client) Point(ctx context.Context, name, address string, ttl time.Duration) error {
	return c.call(ctx, http.MethodPost, "/point", Pointing{Name: name, Address: address, TTLSeconds: int(ttl / time.Second)}, nil)
}

// Promote makes another node the writer; say gets a line for each step.
func (c *Client) Promote(ctx context.Context, p Promotion, say func(string)) (report json.RawMessage, err error) {
	resp, err := c.do(ctx, http.MethodPost, "/promote", p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	lines := json.NewDecoder(io.LimitReader(resp.Body, maxAnswerBytes))
	for ended := false; ; {
		var l line
		switch err := lines.Decode(&l); {
		case errors.Is(err, io.EOF) && ended:
			return report, nil
		case err != nil:
			return report, fmt.Errorf("the control plane broke off in the middle of the promotion: %w; oc-control status says who writes now, and running promote again finishes the job", err)
		case l.Error != "":
			return report, &Failure{Message: l.Error}
		case l.Report != nil:
			report, ended = l.Report, true
		default:
			say(l.Say)
		}
	}
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) (err error) {
	resp, err := c.do(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if out == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(resp.Body, maxAnswerBytes)).Decode(out)
}

// do gives an answer that is a success.
func (c *Client) do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://control"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil, &DownError{Socket: c.socket}
	} else if err != nil {
		return nil, fmt.Errorf("ask the control plane at %s: %w", c.socket, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	failure := &Failure{Message: resp.Status}
	err = json.NewDecoder(io.LimitReader(resp.Body, maxAnswerBytes)).Decode(failure)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("ask the control plane at %s: %s: %w", c.socket, resp.Status, err)
	}
	return nil, failure
}
