package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"time"
)

// worker is one connection.
type worker struct {
	conn net.Conn
	in   *bufio.Reader
	gen  *generator
	rng  *rand.Rand
	out  []byte
	body []byte

	took       []time.Duration
	errors     int
	firstError string
}

const (
	readBufferBytes = 16 << 10
	// expectedAnswers sizes the list of latencies, so that it seldom grows.
	expectedAnswers = 1 << 14
	// answerWithin ends a run against a server that hangs.
	answerWithin = 30 * time.Second
	// maxAnswerBytes bounds an answer.
	maxAnswerBytes = 64 << 20
)

func dial(address string, g *generator, i uint64) (*worker, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to the server: %w", err)
	}
	return &worker{
		conn: conn, in: bufio.NewReaderSize(conn, readBufferBytes), gen: g,
		rng: rand.New(rand.NewPCG(i, 1)), took: make([]time.Duration, 0, expectedAnswers),
	}, nil
}

// do sends one request and reads its answer. It returns false when the
// connection is of no more use.
func (w *worker) do(due, begin time.Time) bool {
	w.out = w.gen.append(w.out[:0], w.rng)
	status, err := w.exchange()
	now := time.Now()
	switch {
	case err != nil:
		w.fail(err.Error())
		return false
	case status < 200 || status > 299:
		w.fail(fmt.Sprintf("%d %s", status, w.body))
		return true
	}
	if !due.Before(begin) {
		w.took = append(w.took, now.Sub(due))
	}
	return true
}

func (w *worker) fail(what string) {
	if w.errors == 0 {
		w.firstError = what
	}
	w.errors++
}

func (w *worker) exchange() (status int, err error) {
	if err := w.conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return 0, err
	}
	if _, err := w.conn.Write(w.out); err != nil {
		return 0, fmt.Errorf("send: %w", err)
	}
	line, err := w.in.ReadSlice('\n')
	if err != nil {
		return 0, fmt.Errorf("read the status line: %w", err)
	}
	// "HTTP/1.1 200 OK"
	if len(line) < 12 || string(line[:5]) != "HTTP/" {
		return 0, fmt.Errorf("not an HTTP answer: %.40q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, err
	}
	length, err := w.headers()
	if err != nil {
		return status, fmt.Errorf("read the headers: %w", err)
	}
	return status, w.readBody(length)
}

// chunked stands for a body in chunks.
const chunked = -1

var errNoLength = errors.New("an answer with neither Content-Length nor chunks")

func (w *worker) headers() (length int, err error) {
	length = -2
	for {
		line, err := w.in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 || length > maxAnswerBytes {
				return 0, fmt.Errorf("Content-Length %q", value)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			length = chunked
		}
	}
	if length < chunked {
		return 0, errNoLength
	}
	return length, nil
}

func (w *worker) readBody(length int) error {
	w.body = w.body[:0]
	if length != chunked {
		return w.take(length)
	}
	for {
		line, err := w.in.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("read a chunk: %w", err)
		}
		n, err := strconv.ParseUint(string(bytes.TrimRight(line, "\r\n")), 16, 31)
		if err != nil || len(w.body)+int(n) > maxAnswerBytes {
			return fmt.Errorf("chunk length %.20q", line)
		}
		if err := w.take(int(n)); err != nil {
			return err
		}
		if _, err := w.in.Discard(2); err != nil {
			return fmt.Errorf("read a chunk: %w", err)
		}
		if n == 0 {
			return nil
		}
	}
}

func (w *worker) take(n int) error {
	have := len(w.body)
	if cap(w.body) < have+n {
		w.body = append(make([]byte, 0, have+n), w.body...)
	}
	w.body = w.body[:have+n]
	if _, err := io.ReadFull(w.in, w.body[have:]); err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	return nil
}
