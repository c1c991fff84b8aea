// Package lambdahost runs a function's real program as Lambda does: it serves the Runtime
// API on the loopback, starts the program, gives it calls, and ends it when it takes too
// long.
package lambdahost

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"originchain/test/output"
)

// ARN is the function's, with a name.
const ARN = "arn:aws:lambda:eu-central-1:123456789012:function:"

const base = "/2018-06-01/runtime/"

// Error is how a call failed, as Lambda says it.
type Error struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

// Error implements error.
func (e *Error) Error() string { return e.Type + ": " + e.Message }

// Function is a program that waits for calls.
type Function struct {
	name    string
	command *exec.Cmd
	output  output.Output

	calls chan *call
	ended chan struct{} // closed when the program has ended
	mu    sync.Mutex
	open  map[string]*call
	count int
}

type call struct {
	id       string
	payload  []byte
	deadline time.Time
	answer   chan answered
}

type answered struct {
	body []byte
	err  *Error
}

// Start starts a program with an environment of its own, for the time of a test.
func Start(t testing.TB, name, program string, env []string) *Function {
	t.Helper()
	f := &Function{name: name, calls: make(chan *call), ended: make(chan struct{}), open: map[string]*call{}}
	server := httptest.NewServer(f)
	f.command = exec.Command(program) //nolint:noctx // it is ended below
	f.command.Env = append([]string{
		"AWS_LAMBDA_RUNTIME_API=" + strings.TrimPrefix(server.URL, "http://"), "AWS_LAMBDA_FUNCTION_NAME=" + name, "AWS_EC2_METADATA_DISABLED=true", "TMPDIR=" + t.TempDir(),
	}, env...)
	f.command.Stdout, f.command.Stderr = &f.output, &f.output
	if err := f.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = f.command.Wait() // how it ended is seen by what it answered
		close(f.ended)
	}()
	t.Cleanup(func() {
		_ = f.command.Process.Kill() // it may have ended
		<-f.ended
		server.CloseClientConnections()
		server.Close()
	})
	return f
}

// Output is what the program has printed.
func (f *Function) Output() string { return f.output.String() }

// Freeze has the program do nothing any more, so that a call of it takes too long.
func (f *Function) Freeze() error { return f.command.Process.Signal(syscall.SIGSTOP) }

// Ended is closed when the program has ended.
func (f *Function) Ended() <-chan struct{} { return f.ended }

// Invoke calls the function once. Errors are those that Lambda has: the function's own,
// Sandbox.Timedout after the time, Runtime.ExitError of a program that ended.
func (f *Function) Invoke(ctx context.Context, payload []byte, within time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	end, _ := ctx.Deadline()
	f.mu.Lock()
	f.count++
	c := &call{id: fmt.Sprintf("%s-%d", f.name, f.count), payload: payload, deadline: end, answer: make(chan answered, 1)}
	f.open[c.id] = c
	f.mu.Unlock()
	exit := &Error{Type: "Runtime.ExitError", Message: "the program has ended"}
	select {
	case f.calls <- c:
	case <-f.ended:
		return nil, exit
	case <-ctx.Done():
		return nil, f.timedOut()
	}
	select {
	case a := <-c.answer:
		if a.err != nil {
			return nil, a.err
		}
		return a.body, nil
	case <-f.ended:
		select {
		case a := <-c.answer: // it has answered, and ended then
			if a.err != nil {
				return nil, a.err
			}
			return a.body, nil
		default:
			return nil, exit
		}
	case <-ctx.Done():
		return nil, f.timedOut()
	}
}

// timedOut ends the program, as Lambda does.
func (f *Function) timedOut() *Error {
	_ = f.command.Process.Kill() // it may have ended
	return &Error{Type: "Sandbox.Timedout", Message: "the call took too long"}
}

// ServeHTTP is the Runtime API.
func (f *Function) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, base)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if path == "invocation/next" {
		f.next(w, r)
		return
	}
	id, what, _ := strings.Cut(strings.TrimPrefix(path, "invocation/"), "/")
	f.mu.Lock()
	c := f.open[id]
	delete(f.open, id)
	f.mu.Unlock()
	switch {
	case c == nil:
		http.Error(w, "no such call", http.StatusNotFound)
		return
	case what == "response":
		c.answer <- answered{body: body}
	case what == "error":
		e := &Error{}
		if json.Unmarshal(body, e) != nil {
			e.Type, e.Message = "Runtime.Unknown", string(body)
		}
		c.answer <- answered{err: e}
	default:
		http.Error(w, "no such route", http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func (f *Function) next(w http.ResponseWriter, r *http.Request) {
	select {
	case c := <-f.calls:
		h := w.Header()
		h.Set("Lambda-Runtime-Aws-Request-Id", c.id)
		h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(c.deadline.UnixMilli(), 10))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", ARN+f.name)
		h.Set("Content-Type", "application/json")
		_, _ = w.Write(c.payload) // of a program that ended, the call says so
	case <-r.Context().Done():
	case <-f.ended:
	}
}
