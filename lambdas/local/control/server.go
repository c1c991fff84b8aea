package control

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/sirupsen/logrus"
)

// maxBodyBytes bounds what is asked, maxAnswerBytes what is answered.
const (
	maxBodyBytes   = 64 << 10
	maxAnswerBytes = 16 << 20
)

// Failure is an answer that is not a success.
type Failure struct {
	Message string `json:"error"`
}

// Error implements error.
func (f *Failure) Error() string { return f.Message }

// line is one of an answer that goes on: exactly one field is there.
type line struct {
	Say    string          `json:"say,omitempty"`
	Report json.RawMessage `json:"report,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// NewServer serves a plane.
func NewServer(p Plane, log logrus.FieldLogger) http.Handler {
	s := &server{plane: p, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("POST /down", s.down)
	mux.HandleFunc("POST /promote", s.promote)
	mux.HandleFunc("POST /fault/{fault}/{id}", s.fault)
	mux.HandleFunc("POST /undo", s.undo)
	mux.HandleFunc("POST /point", s.point)
	return mux
}

type server struct {
	plane Plane
	log   logrus.FieldLogger
}

func (s *server) answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		v = &Failure{Message: err.Error()}
	}
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.WithError(err).Debug("a command went away before its answer")
	}
}

func (s *server) status(w http.ResponseWriter, r *http.Request) {
	v, err := s.plane.Status(r.Context())
	s.answer(w, v, err)
}

func (s *server) down(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, struct{}{}, nil)
	s.plane.Down()
}

func (s *server) promote(w http.ResponseWriter, r *http.Request) {
	var p Promotion
	if err := decode(r, &p); err != nil {
		s.answer(w, nil, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	send := func(l line) {
		if err := out.Encode(l); err == nil {
			_ = flush.Flush() // a command that went away misses its lines, not the promotion
		}
	}
	report, err := s.plane.Promote(context.WithoutCancel(r.Context()), p, func(text string) { send(line{Say: text}) })
	if len(report) > 0 {
		send(line{Report: report})
	}
	if err != nil {
		send(line{Error: err.Error()})
	}
}

func (s *server) fault(w http.ResponseWriter, r *http.Request) {
	f, err := s.plane.Fault(r.Context(), r.PathValue("fault"), r.PathValue("id"))
	s.answer(w, f, err)
}

func (s *server) undo(w http.ResponseWriter, r *http.Request) {
	var f Fault
	err := decode(r, &f)
	if err == nil {
		err = s.plane.Undo(r.Context(), f)
	}
	s.answer(w, struct{}{}, err)
}

func (s *server) point(w http.ResponseWriter, r *http.Request) {
	var p Pointing
	err := decode(r, &p)
	if err == nil {
		err = s.plane.Point(r.Context(), p.Name, p.Address, time.Duration(p.TTLSeconds)*time.Second)
	}
	s.answer(w, struct{}{}, err)
}

func decode(r *http.Request, into any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, maxBodyBytes))
	d.DisallowUnknownFields()
	return d.Decode(into)
}
