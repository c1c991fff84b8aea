// Package awsfake is the services of AWS that have no emulator, for tests: one server on
// the loopback, with state, and with the awkward behaviour that the real ones have.
//
// Every request and every answer is held against the service's published model. What does
// not agree fails the test, so that the fake cannot drift to what our code happens to
// send. The models are those of Debian's python3-botocore.
package awsfake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/uuid"

	"originchain/shared/aws/session"
	"originchain/test/awsfake/model"
)

// Region and Account are where everything is.
const (
	Region  = "eu-central-1"
	Account = "123456789012"
)

// maxBodyBytes bounds a request.
const maxBodyBytes = 4 << 20

// readTimeout bounds the head of a request.
const readTimeout = time.Minute

// Fake is the server.
type Fake struct {
	// URL is that of all services: which one is meant is in a request's signature.
	URL        string
	CloudWatch *CloudWatch
	Route53    *Route53
	SES        *SES
	SNS        *SNS
	SQS        *SQS
	SSM        *SSM
	STS        *STS
	Secrets    *Secrets
	States     *States

	t        testing.TB
	ctx      context.Context //nolint:containedctx // what agents run under, from Start to the test's end
	services map[string]*service
	work     sync.WaitGroup
}

// Start runs the server for the time of a test.
func Start(t testing.TB) *Fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return StartOn(t, l)
}

// StartOn is Start on a listener that the caller has opened, as in another network
// namespace.
func StartOn(t testing.TB, l net.Listener) *Fake {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	f := &Fake{t: t, ctx: ctx, services: map[string]*service{}}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: f, ReadHeaderTimeout: readTimeout}}
	f.URL = "http://" + l.Addr().String()
	f.CloudWatch, f.Route53, f.SES, f.SNS, f.SQS = newCloudWatch(f), newRoute53(f), newSES(f), newSNS(f), newSQS(f)
	f.SSM, f.STS, f.Secrets, f.States = newSSM(f), newSTS(f), newSecrets(f), newStates(f)
	server.Start()
	t.Cleanup(func() {
		cancel()
		server.CloseClientConnections()
		server.Close()
		f.work.Wait()
	})
	return f
}

// Credentials sign requests; nobody checks with what.
func Credentials() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider("test", "test", "")
}

// Config is that of the SDK's clients.
func (f *Fake) Config() aws.Config {
	return aws.Config{Region: Region, BaseEndpoint: &f.URL, Credentials: Credentials(), APIOptions: session.APIOptions()}
}

// Environment is that of a process whose SDK is to use the fake for all that it serves.
func (f *Fake) Environment() []string {
	env := []string{"AWS_REGION=" + Region, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test"}
	for _, s := range []string{"CLOUDWATCH", "ROUTE_53", "SECRETS_MANAGER", "SESV2", "SFN", "SNS", "SQS", "SSM", "STS"} {
		env = append(env, "AWS_ENDPOINT_URL_"+s+"="+f.URL)
	}
	return env
}

// service is one service: its model, its operations, and what it is to do next.
type service struct {
	fake *Fake
	// name is that of the service's model, scope that in signatures.
	name, scope string
	operations  map[string]operation
	load        func() (*model.Service, error) // once

	// mu guards the state of the whole service.
	mu    sync.Mutex
	next  map[string][]Behaviour
	calls []Call
}

// operation answers, or fails with a *Refusal. The service is locked.
type operation func(in model.Struct) (model.Struct, error)

// Call is a request that was made of a service.
type Call struct {
	Operation string
	Input     model.Struct
	// Compressed: its body came as gzip.
	Compressed bool
}

// Refusal is an error of a service.
type Refusal struct{ Code, Message string }

// Error implements error.
func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

func refuse(code, format string, args ...any) error {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

// serve adds a service by the name of its model, and by that which requests are signed
// for. The model is read when the first request comes: most tests need one or two.
func (f *Fake) serve(name, scope string, operations map[string]operation) *service {
	s := &service{fake: f, name: name, scope: scope, operations: operations, next: map[string][]Behaviour{}}
	s.load = sync.OnceValues(func() (*model.Service, error) {
		m, err := model.Load(name)
		if err == nil && m.Scope() != scope {
			err = fmt.Errorf("the model of %s has its requests signed for %s, not %s", name, m.Scope(), scope)
		}
		for op := range operations {
			if err == nil && m.Operations[op] == nil {
				err = fmt.Errorf("the model of %s has no operation %s", name, op)
			}
		}
		return m, err
	})
	f.services[scope] = s
	return s
}

// Next says how the next requests for an operation are met, one each.
func (s *service) Next(operation string, b ...Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.operations[operation] == nil {
		s.fake.t.Fatalf("%s has no operation %s here", s.name, operation)
	}
	s.next[operation] = append(s.next[operation], b...)
}

// After is a context that ends, with the cause, when so many requests for an operation have
// come: that of a caller who goes in the middle.
func (s *service) After(t testing.TB, operation string, requests int, cause error) context.Context {
	ctx, cancel := context.WithCancelCause(t.Context())
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for len(s.Calls(operation)) < requests {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
		cancel(cause)
	}()
	t.Cleanup(func() {
		cancel(nil)
		<-watching
	})
	return ctx
}

// Calls are the requests for an operation so far, those too that were not answered.
func (s *service) Calls(operation string) (calls []Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c.Operation == operation {
			calls = append(calls, c)
		}
	}
	return calls
}

// scopes is where a signature says which service it is for.
var scopes = regexp.MustCompile(`Credential=[^/]+/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request`)

// ServeHTTP implements http.Handler.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	scope := scopes.FindStringSubmatch(r.Header.Get("Authorization"))
	if scope == nil {
		f.t.Errorf("%s %s is not signed", r.Method, r.URL)
		http.Error(w, "not signed", http.StatusForbidden)
		return
	}
	// The service without regions is signed for as its own endpoint has it, or as ours has.
	if scope[1] != Region && scope[2] != "route53" {
		f.t.Errorf("%s %s is signed for the region %s, and this is %s", r.Method, r.URL, scope[1], Region)
		http.Error(w, "another region", http.StatusForbidden)
		return
	}
	s := f.services[scope[2]]
	if s == nil {
		f.t.Errorf("%s %s is for the service %q, which is not served here", r.Method, r.URL, scope[2])
		http.Error(w, "no such service", http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		if r.Context().Err() == nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			f.t.Errorf("read a request to %s: %v", s.name, err)
		}
		panic(http.ErrAbortHandler)
	}
	s.answer(w, r, body)
}

func (s *service) answer(w http.ResponseWriter, r *http.Request, body []byte) {
	id := uuid.NewString()
	m, err := s.load()
	if err != nil {
		s.fake.t.Error(err)
		http.Error(w, err.Error(), http.StatusNotImplemented)
		return
	}
	req, wrong := m.Read(r, body)
	do := s.operations[req.Operation]
	s.report(wrong)
	if do == nil && req.Operation != "" {
		s.fake.t.Errorf("%s %s is not served here", s.name, req.Operation)
	}
	if len(wrong) > 0 || do == nil {
		http.Error(w, "the request is not as the model has it", http.StatusBadRequest)
		return
	}
	b := s.meet(req)
	if b.wait != nil {
		select {
		case <-b.wait:
		case <-s.fake.ctx.Done():
		}
	}
	var out model.Struct
	err = b.refuse
	if err == nil && !b.lost {
		s.mu.Lock()
		out, err = do(req.Input)
		s.mu.Unlock()
	}
	if b.lost || b.unanswered {
		panic(http.ErrAbortHandler)
	}
	answer, wrong := write(m, req.Operation, id, out, err)
	s.report(wrong)
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Status)
	_, _ = w.Write(answer.Body) // who has gone does not want it
}

func write(m *model.Service, operation, id string, out model.Struct, err error) (model.Answer, []model.Violation) {
	var r *Refusal
	if errors.As(err, &r) {
		return m.Refusal(operation, id, r.Code, r.Message)
	}
	if out == nil {
		out = model.Struct{}
	}
	return m.Answer(operation, id, out)
}

// report fails the test for what is not as the model has it.
func (s *service) report(wrong []model.Violation) {
	for _, v := range wrong {
		s.fake.t.Errorf("not as the service's model has it: %s", v)
	}
}

// meet notes a request, and takes what was said of it.
func (s *service) meet(req model.Request) Behaviour {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, Call(req))
	queue := s.next[req.Operation]
	if len(queue) == 0 {
		return Behaviour{}
	}
	s.next[req.Operation] = queue[1:]
	return queue[0]
}
