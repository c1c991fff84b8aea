package s3object

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"originchain/shared/aws/s3object/s3test"
	"originchain/shared/object"
	"originchain/shared/objecttest"
)

// sizes are those of an object in one request and of one in three parts.
var sizes = map[string]int{"small": 100, "big": 2*partBytes + 100}

type counting struct {
	r io.Reader
	n atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

func filled(size int) []byte { return bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size] }

// last is the request that makes an object visible.
func last(size int) string {
	if size > partBytes {
		return "CompleteMultipartUpload"
	}
	return "PutObject"
}

func noUploads(t *testing.T, b s3test.Bucket) {
	t.Helper()
	out, err := b.Client.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &b.Name})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Uploads) != 0 {
		t.Fatalf("%d uploads are left", len(out.Uploads))
	}
}

func TestWhatIsSent(t *testing.T) {
	for name, size := range sizes {
		t.Run(name, func(t *testing.T) {
			s, p, b := through(t, false)
			objecttest.Put(t, s, "k", filled(size))
			for _, r := range p.requests(last(size)) {
				if r.header.Get("If-None-Match") != "*" {
					t.Errorf("%s without its condition: %v", r.op, r.header)
				}
			}
			for _, op := range []string{"PutObject", "UploadPart"} {
				for _, r := range p.requests(op) {
					if len(r.header.Get("X-Amz-Checksum-Sha256")) != 44 {
						t.Errorf("%s without its SHA-256: %v", r.op, r.header)
					}
				}
			}
			if got := p.most["UploadPart"]; got > partsAtOnce {
				t.Errorf("%d parts at once, at most %d", got, partsAtOnce)
			}
			noUploads(t, b)
		})
	}
}

func TestPartsAreBounded(t *testing.T) {
	s, p, _ := through(t, false)
	release := make(chan struct{})
	reached := make(chan struct{}, 100)
	p.body.set(func(op string, b []byte) []byte {
		if op == "UploadPart" {
			reached <- struct{}{}
			<-release
		}
		return b
	})
	const size = 7 * partBytes
	b := filled(size)
	r := &counting{r: bytes.NewReader(b)}
	body := object.Bytes(b)
	body.Open = func() (io.ReadCloser, error) { return io.NopCloser(r), nil }
	done := make(chan error)
	go func() { done <- s.Put(t.Context(), "k", body) }()
	for range partsAtOnce {
		<-reached
	}
	// All buffers are on their way: what was read is in them, but for one that io.Copy has.
	if got, most := r.n.Load(), int64(partsAtOnce*partBytes+1<<20); got > most {
		t.Errorf("read %d bytes, at most %d", got, most)
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if p.most["UploadPart"] != partsAtOnce {
		t.Errorf("%d parts at once, want %d", p.most["UploadPart"], partsAtOnce)
	}
	if !bytes.Equal(objecttest.Read(t, s, "k"), b) {
		t.Error("it came back as other bytes")
	}
}

func TestAnswerIsLost(t *testing.T) {
	for name, size := range sizes {
		t.Run(name, func(t *testing.T) {
			s, p, b := through(t, false)
			lose := times(1, last(size))
			p.alter.set(func(op string, _ *http.Response) error {
				if lose(op) {
					return errors.New("lost")
				}
				return nil
			})
			// An upload that was completed can be completed again, by its own id.
			err := s.Put(t.Context(), "k", object.Bytes(filled(size)))
			if !errors.Is(err, object.ErrExists) && (err != nil || size <= partBytes) {
				t.Fatalf("got %v, want ErrExists", err)
			}
			if n := len(p.requests(last(size))); n != 2 {
				t.Errorf("%d requests, want 2", n)
			}
			if !bytes.Equal(objecttest.Read(t, s, "k"), filled(size)) {
				t.Error("it came back as other bytes")
			}
			noUploads(t, b)
		})
	}
}

// An upload whose id is forgotten once it is completed.
func TestUploadIsForgotten(t *testing.T) {
	for name, completed := range map[string]bool{"completed": true, "lost": false} {
		t.Run(name, func(t *testing.T) {
			s, p, _ := through(t, false)
			lose, forget := times(1, "CompleteMultipartUpload"), times(2, "CompleteMultipartUpload")
			if completed {
				p.alter.set(func(op string, _ *http.Response) error {
					if lose(op) {
						return errors.New("lost")
					}
					return nil
				})
				forget("CompleteMultipartUpload")
			}
			p.answer.set(func(op string, w http.ResponseWriter) bool {
				if op != "CompleteMultipartUpload" || (completed && len(p.requests(op)) == 1) || !forget(op) {
					return false
				}
				refuse(w, http.StatusNotFound, codeNoUpload)
				return true
			})
			err := s.Put(t.Context(), "k", object.Bytes(filled(sizes["big"])))
			if err == nil || errors.Is(err, object.ErrExists) != completed || errors.Is(err, object.ErrNotFound) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestPassingFailuresPass(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
	}{
		{http.StatusInternalServerError, "InternalError"},
		{http.StatusServiceUnavailable, "SlowDown"},
		{http.StatusConflict, codeConflict},
		{http.StatusConflict, codeAborted},
	} {
		for name, size := range sizes {
			t.Run(c.code+" "+name, func(t *testing.T) {
				s, p, b := through(t, false)
				refused := map[string]func(string) bool{}
				for _, op := range []string{"PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "ListObjectsV2", "GetObject", "DeleteObjects", "ListObjectVersions"} {
					refused[op] = times(2, op)
				}
				p.answer.set(func(op string, w http.ResponseWriter) bool {
					if refused[op] == nil || !refused[op](op) {
						return false
					}
					refuse(w, c.status, c.code)
					return true
				})
				objecttest.Put(t, s, "k", filled(size))
				if !bytes.Equal(objecttest.Read(t, s, "k"), filled(size)) {
					t.Error("it came back as other bytes")
				}
				if got := objecttest.Keys(t, s, ""); len(got) != 1 {
					t.Errorf("got %q", got)
				}
				if err := s.Erase(t.Context(), "k"); err != nil {
					t.Error(err)
				}
				for op, more := range refused {
					if last(size) == "PutObject" && strings.Contains(op, "Upload") || last(size) != "PutObject" && op == "PutObject" {
						continue
					}
					if more(op) {
						t.Errorf("%s was not refused twice", op)
					}
				}
				noUploads(t, b)
			})
		}
	}
}

// A conflict that lasts as long as the retries of one request makes the upload start
// over, as S3 wants it.
func TestUploadStartsOver(t *testing.T) {
	s, p, b := through(t, false)
	conflict := times(maxAttempts, "CompleteMultipartUpload")
	p.answer.set(func(op string, w http.ResponseWriter) bool {
		if !conflict(op) {
			return false
		}
		refuse(w, http.StatusConflict, codeConflict)
		return true
	})
	objecttest.Put(t, s, "k", filled(sizes["big"]))
	if n := len(p.requests("CreateMultipartUpload")); n != 2 {
		t.Errorf("%d uploads, want 2", n)
	}
	noUploads(t, b)
}

func TestFailuresThatStayAreBoundedAndTidied(t *testing.T) {
	for _, op := range []string{"PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"} {
		t.Run(op, func(t *testing.T) {
			s, p, b := through(t, false)
			p.answer.set(func(got string, w http.ResponseWriter) bool {
				if got != op {
					return false
				}
				refuse(w, http.StatusInternalServerError, "InternalError")
				return true
			})
			size := sizes["big"]
			if op == "PutObject" {
				size = sizes["small"]
			}
			err := s.Put(t.Context(), "k", object.Bytes(filled(size)))
			var e *object.Error
			if !errors.As(err, &e) || e.Op != "put" || e.Key != "k" || errors.Is(err, object.ErrExists) {
				t.Fatalf("got %v", err)
			}
			if n := len(p.requests(op)); n > 3*maxAttempts {
				t.Errorf("%d requests", n)
			}
			p.answer.set(nil)
			if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, object.ErrNotFound) {
				t.Errorf("got %v", err)
			}
			noUploads(t, b)
		})
	}
}

// What changes on the way there is refused by the server, on the way back by us.
func TestBytesChangeOnTheWay(t *testing.T) {
	for name, size := range sizes {
		t.Run(name, func(t *testing.T) {
			s, p, b := through(t, false)
			p.body.set(func(op string, b []byte) []byte {
				if op == "PutObject" || op == "UploadPart" {
					b[len(b)-1] ^= 1
				}
				return b
			})
			if err := s.Put(t.Context(), "k", object.Bytes(filled(size))); err == nil {
				t.Fatal("other bytes were stored")
			}
			if _, err := s.Stat(t.Context(), "k"); !errors.Is(err, object.ErrNotFound) {
				t.Fatalf("got %v", err)
			}
			noUploads(t, b)
			p.body.set(nil)
			objecttest.Put(t, s, "k", filled(size))
			p.alter.set(func(op string, answer *http.Response) error {
				if op == "GetObject" {
					got, err := io.ReadAll(answer.Body)
					if err != nil {
						return err
					}
					got[len(got)/2] ^= 1
					answer.Body = io.NopCloser(bytes.NewReader(got))
				}
				return nil
			})
			got, err := read(t, s, "k")
			if !errors.Is(err, object.ErrContent) || len(got) == size {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			p.alter.set(func(op string, answer *http.Response) error {
				if op == "GetObject" {
					answer.Body = io.NopCloser(io.LimitReader(answer.Body, int64(size)-1))
				}
				return nil
			})
			if got, err := read(t, s, "k"); err == nil {
				t.Errorf("%d of %d bytes passed for all", len(got), size)
			}
		})
	}
}

func read(t *testing.T, s object.Store, key string) ([]byte, error) {
	t.Helper()
	r, err := s.Get(t.Context(), key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}

// every calls every method about key "k".
func every(ctx context.Context, s *Store) map[string]error {
	_, get := s.Get(ctx, "k", 0, -1)
	_, getRange := s.Get(ctx, "k", 1, 1)
	_, getNothing := s.Get(ctx, "k", 0, 0)
	_, stat := s.Stat(ctx, "k")
	_, list := s.List(ctx, "", "", 1)
	_, region := s.Region(ctx)
	return map[string]error{
		"put": s.Put(ctx, "k", object.Bytes([]byte("x"))), "put big": s.Put(ctx, "k", object.Bytes(filled(sizes["big"]))),
		"get": get, "get a range": getRange, "get nothing": getNothing, "stat": stat, "list": list,
		"delete": s.Delete(ctx, "k"), "erase": s.Erase(ctx, "k"), "region": region,
	}
}

func TestDenied(t *testing.T) {
	b := s3test.NewBucket(t, false)
	objecttest.Put(t, open(t, b.URL("")), "k", []byte("x"))
	for name, c := range map[string]struct{ id, secret, code string }{
		"wrong secret": {s3test.AccessKey, "another-secret-that-no-error-may-repeat", "SignatureDoesNotMatch"},
		"unknown key":  {"unknown-access-key", s3test.SecretKey, "XAdminUserNotFound"}, // the gateway's word for InvalidAccessKeyId
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New(t.Context(), Config{Bucket: b.Name, Region: s3test.Region, Endpoint: b.Endpoint,
				Credentials: credentials.NewStaticCredentialsProvider(c.id, c.secret, "")})
			if err != nil {
				t.Fatal(err)
			}
			for op, err := range every(t.Context(), s) {
				// A HEAD is answered without a code.
				if op != "stat" && op != "get nothing" && op != "region" && (!errors.Is(err, object.ErrDenied) || !strings.Contains(err.Error(), c.code)) {
					t.Errorf("%s: not ErrDenied for %s: %v", op, c.code, err)
				}
				if err == nil {
					t.Errorf("%s was done", op)
					continue
				}
				for _, secret := range []string{c.id, c.secret, s3test.SecretKey, "Signature="} {
					if strings.Contains(err.Error(), secret) {
						t.Errorf("%s repeats %q: %v", op, secret, err)
					}
				}
			}
		})
	}
}

func TestRefusalsOfS3(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		kind   error
		says   string
	}{
		{http.StatusForbidden, "AccessDenied", object.ErrDenied, "policy"},
		{http.StatusForbidden, "InvalidAccessKeyId", object.ErrDenied, "check the access key"},
		{http.StatusForbidden, "SignatureDoesNotMatch", object.ErrDenied, "secret key"},
		{http.StatusBadRequest, "ExpiredToken", object.ErrDenied, "renew"},
		{http.StatusForbidden, "RequestTimeTooSkewed", object.ErrDenied, "clock"},
		{http.StatusForbidden, "SomethingNew", object.ErrDenied, "SomethingNew"},
		{http.StatusInsufficientStorage, "XFull", object.ErrNoSpace, "XFull"},
		{http.StatusNotFound, "NoSuchBucket", ErrNoBucket, "make it"},
	} {
		t.Run(c.code, func(t *testing.T) {
			s, p, b := through(t, false)
			p.answer.set(func(op string, w http.ResponseWriter) bool {
				refuse(w, c.status, c.code)
				return true
			})
			for op, err := range every(t.Context(), s) {
				if op == "stat" || op == "get nothing" || op == "region" {
					if c.status == http.StatusForbidden && !errors.Is(err, object.ErrDenied) {
						t.Errorf("%s: %v", op, err)
					}
					continue // the answer has no code: see TestNoBucket
				}
				if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s: %v", op, err)
				}
			}
			noUploads(t, b)
		})
	}
}

func TestNoBucket(t *testing.T) {
	s, err := New(t.Context(), Config{Bucket: "nobody-has-this", Region: s3test.Region, Endpoint: s3test.NewBucket(t, false).Endpoint})
	if err != nil {
		t.Fatal(err)
	}
	for op, err := range every(t.Context(), s) {
		if !errors.Is(err, ErrNoBucket) || !errors.Is(err, object.ErrNoStore) || errors.Is(err, object.ErrNotFound) || !strings.Contains(err.Error(), "nobody-has-this") {
			t.Errorf("%s: %v", op, err)
		}
	}
}
