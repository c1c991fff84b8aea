package leasehttp

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"

	"originchain/shared/lease"
)

// names are those of leases; they may become names of directories.
var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// Server serves the leases of one control plane.
type Server struct {
	open  func(name string) (lease.Store, error)
	token [sha256.Size]byte
	log   logrus.FieldLogger
	mux   *http.ServeMux
}

// NewServer serves what open gives for a name; token is what requests must carry.
func NewServer(open func(name string) (lease.Store, error), token string, log logrus.FieldLogger) *Server {
	s := &Server{open: open, token: sha256.Sum256([]byte(token)), log: log, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET "+pathPrefix+"{name}", s.with(s.get))
	s.mux.HandleFunc("PUT "+pathPrefix+"{name}", s.with(s.put))
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// with checks what every request needs, and opens its lease.
func (s *Server) with(handle func(http.ResponseWriter, *http.Request, lease.Store)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		// Of the hashes, so that not even the length shows.
		if sum := sha256.Sum256([]byte(token)); subtle.ConstantTimeCompare(sum[:], s.token[:]) != 1 {
			http.Error(w, "the control plane's token is missing or another one", http.StatusUnauthorized)
			return
		}
		name := r.PathValue("name")
		if !names.MatchString(name) {
			http.Error(w, "a lease has a name of letters, digits, - and _", http.StatusBadRequest)
			return
		}
		store, err := s.open(name)
		if err != nil {
			s.failed(w, r, err)
			return
		}
		handle(w, r, store)
	}
}

// failed answers what is nobody's fault but the store's.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, err error) {
	s.log.WithError(err).WithField("lease", r.PathValue("name")).Error("a lease record could not be " + map[string]string{"GET": "read", "PUT": "written"}[r.Method])
	http.Error(w, err.Error(), http.StatusServiceUnavailable)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, store lease.Store) {
	record, ok, err := store.Load(r.Context())
	switch {
	case err != nil:
		s.failed(w, r, err)
	case !ok:
		http.Error(w, "there is no record of that name", http.StatusNotFound)
	default:
		s.answer(w, r, http.StatusOK, record)
	}
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, store lease.Store) {
	expect, err := expected(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, lease.MaxRecordBytes))
	if err != nil {
		http.Error(w, "the record did not arrive whole: "+err.Error(), http.StatusBadRequest)
		return
	}
	next, err := lease.Decode(body)
	if err == nil {
		next, err = lease.Successor(expect, next)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	stored, err := store.CompareAndSet(r.Context(), expect, next)
	var other *lease.ConflictError
	switch {
	case errors.As(err, &other) && other.Exists:
		s.answer(w, r, http.StatusPreconditionFailed, other.Found)
	case errors.As(err, &other):
		w.WriteHeader(http.StatusPreconditionFailed)
	case err != nil:
		s.failed(w, r, err)
	default:
		s.answer(w, r, http.StatusOK, stored)
	}
}

func expected(r *http.Request) (uint64, error) {
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	if match == "" && none == "*" {
		return 0, nil
	}
	version, err := strconv.ParseUint(strings.Trim(match, `"`), 10, 64)
	if err != nil || none != "" || version == 0 {
		return 0, errors.New(`want If-Match: "<version>" or If-None-Match: *, one of them`)
	}
	return version, nil
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, status int, record lease.Record) {
	body, err := record.Encode()
	if err != nil {
		s.failed(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // whoever asked has gone
}
