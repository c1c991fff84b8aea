package supervise

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"

	"originchain/shared/failover"
)

const (
	pathPrefix = "/v1/supervise/"
	// maxUnitBytes bounds a unit file that is sent.
	maxUnitBytes = 1 << 20
	// maxAnswerBytes bounds an answer: a unit file as base64, and its name.
	maxAnswerBytes = 2 << 20
	// maxTokenBytes bounds the token's file.
	maxTokenBytes = 4 << 10
)

// Local is what a Server makes reachable: a Supervisor.
type Local interface {
	failover.Control
	Kill(ctx context.Context, n failover.Node, sig syscall.Signal) error
}

// Server makes a supervisor reachable for other processes of this machine, and for those
// only, which must have the token.
type Server struct {
	local     Local
	tokenFile string
	log       logrus.FieldLogger
	mux       *http.ServeMux
}

// NewServer serves local. The token's file is read for each request, so that a token can
// be replaced.
func NewServer(local Local, tokenFile string, log logrus.FieldLogger) *Server {
	s := &Server{local: local, tokenFile: tokenFile, log: log, mux: http.NewServeMux()}
	for pattern, handle := range map[string]func(*http.Request, failover.Node) (any, error){
		"GET " + pathPrefix + "{machine}":          s.process,
		"POST " + pathPrefix + "{machine}/stop":    s.stop,
		"POST " + pathPrefix + "{machine}/start":   s.start,
		"POST " + pathPrefix + "{machine}/restart": s.restart,
		"POST " + pathPrefix + "{machine}/kill":    s.kill,
		"GET " + pathPrefix + "{machine}/unit":     s.unit,
		"PUT " + pathPrefix + "{machine}/unit":     s.rewrite,
	} {
		s.mux.HandleFunc(pattern, s.with(handle))
	}
	return s
}

// Listen listens on a loopback address, and refuses any other.
func Listen(address string) (net.Listener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("the supervisor's address %q is not ip:port: %w", address, err)
	}
	if !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("the supervisor's address %s can be reached from other machines; use one of 127.0.0.0/8", address)
	}
	return net.Listen("tcp", address)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		s.refuse(w, http.StatusForbidden, problem{Code: "not_local", Message: "the supervisor answers this machine only"})
		return
	}
	want, err := readToken(s.tokenFile)
	if err != nil {
		s.log.WithError(err).Error("the supervisor's token could not be read")
		s.refuse(w, http.StatusServiceUnavailable, problem{Code: "no_token", Message: "the supervisor's token could not be read"})
		return
	}
	got, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	// Of the hashes, so that not even the length shows.
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		s.refuse(w, http.StatusUnauthorized, problem{Code: "unauthorized", Message: "the supervisor's token is missing or another one"})
		return
	}
	s.mux.ServeHTTP(w, r)
}

// readToken reads a token that is not empty.
func readToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTokenBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if token == "" || len(text) > maxTokenBytes {
		return "", fmt.Errorf("%s holds no token of 1 to %d bytes", file, maxTokenBytes)
	}
	return token, nil
}

// with is what all calls have in common.
func (s *Server) with(handle func(*http.Request, failover.Node) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxUnitBytes)
		answer, err := handle(r, failover.Node{ID: r.URL.Query().Get("node"), Machine: r.PathValue("machine")})
		if err != nil {
			status, p := problemOf(err)
			s.refuse(w, status, p)
			return
		}
		s.answer(w, http.StatusOK, answer)
	}
}

func (s *Server) answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever asked has gone
}

func (s *Server) refuse(w http.ResponseWriter, status int, p problem) { s.answer(w, status, p) }

// running is failover.Process on the wire.
type running struct {
	Running bool   `json:"running"`
	PID     int    `json:"pid"`
	Reaped  bool   `json:"reaped"`
	Place   string `json:"place,omitempty"`
}

// unitText is a unit file on the wire.
type unitText struct {
	Name string `json:"name"`
	Text []byte `json:"text"`
}

func (s *Server) process(r *http.Request, n failover.Node) (any, error) {
	p, err := s.local.Process(r.Context(), n)
	return running(p), err
}

func (s *Server) stop(r *http.Request, n failover.Node) (any, error) {
	p, err := s.local.Stop(r.Context(), n)
	return running(p), err
}

func (s *Server) start(r *http.Request, n failover.Node) (any, error) {
	return struct{}{}, s.local.Start(r.Context(), n)
}

func (s *Server) restart(r *http.Request, n failover.Node) (any, error) {
	return struct{}{}, s.local.Restart(r.Context(), n)
}

func (s *Server) kill(r *http.Request, n failover.Node) (any, error) {
	sig, err := strconv.Atoi(r.URL.Query().Get("signal"))
	if err != nil || sig <= 0 || sig > maxSignal {
		return nil, &badRequestError{fmt.Sprintf("signal is a number from 1 to %d", maxSignal)}
	}
	return struct{}{}, s.local.Kill(r.Context(), n, syscall.Signal(sig))
}

// maxSignal is the last signal of Linux.
const maxSignal = 64

func (s *Server) unit(r *http.Request, n failover.Node) (any, error) {
	name, text, err := s.local.Unit(r.Context(), n)
	return unitText{Name: name, Text: text}, err
}

func (s *Server) rewrite(r *http.Request, n failover.Node) (any, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, &badRequestError{"the unit did not arrive whole: " + err.Error()}
	}
	return struct{}{}, s.local.Rewrite(r.Context(), n, text)
}

type badRequestError struct{ what string }

// Error implements error.
func (e *badRequestError) Error() string { return e.what }

// problem is an error on the wire. Subject is what its type holds beside the node asked
// for.
type problem struct {
	Code    string `json:"error"`
	Message string `json:"message"`
	Subject string `json:"subject,omitempty"`
}

// sentinels are the errors that are known by name alone.
func sentinels() map[string]error {
	return map[string]error{"closed": ErrClosed, "stopped": ErrStopped, "not_running": ErrNotRunning, "started_again": ErrStartedAgain}
}

func problemOf(err error) (status int, p problem) {
	p.Message = err.Error()
	var unknown *UnknownMachineError
	var wrong *WrongNodeError
	var refused *RefusedUnitError
	var bad *badRequestError
	switch {
	case errors.As(err, &unknown):
		p.Code, p.Subject = "unknown_machine", unknown.File
		return http.StatusNotFound, p
	case errors.As(err, &wrong):
		p.Code, p.Subject = "wrong_node", wrong.Have
		return http.StatusConflict, p
	case errors.As(err, &refused):
		p.Code, p.Subject, p.Message = "refused_unit", refused.File, refused.Err.Error()
		return http.StatusUnprocessableEntity, p
	case errors.As(err, &bad):
		p.Code = "bad_request"
		return http.StatusBadRequest, p
	}
	for code, sentinel := range sentinels() {
		if errors.Is(err, sentinel) {
			p.Code = code
			return http.StatusConflict, p
		}
	}
	p.Code = "failed"
	return http.StatusInternalServerError, p
}
