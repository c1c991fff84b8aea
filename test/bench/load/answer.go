package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// answer is a whole HTTP/1.1 answer.
type answer struct {
	status int
	body   []byte
}

var (
	headerEnd   = []byte("\r\n\r\n")
	lineEnd     = []byte("\r\n")
	errNoLength = errors.New("an answer with neither Content-Length nor chunks")
)

// parseAnswer looks whether b holds a whole answer. It starts from the front
// each time: nearly all answers arrive in one piece.
func parseAnswer(b []byte) (a answer, done bool, err error) {
	end := bytes.Index(b, headerEnd)
	if end < 0 {
		return a, false, nil
	}
	head, rest := b[:end+len(lineEnd)], b[end+len(headerEnd):]
	line, head, _ := bytes.Cut(head, lineEnd)
	// "HTTP/1.1 200 OK"
	if len(line) < 12 || string(line[:5]) != "HTTP/" {
		return a, false, fmt.Errorf("not an HTTP answer: %.40q", line)
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return a, false, fmt.Errorf("not an HTTP answer: %.40q", line)
	}
	length, chunked, err := bodyLength(head)
	switch {
	case err != nil:
		return a, false, err
	case chunked:
		a.body, done, err = joinChunks(rest)
		return a, done, err
	case len(rest) < length:
		return a, false, nil
	}
	a.body = rest[:length]
	return a, true, nil
}

// bodyLength reads from the header how the body ends.
func bodyLength(head []byte) (length int, chunked bool, err error) {
	for len(head) > 0 {
		var line []byte
		line, head, _ = bytes.Cut(head, lineEnd)
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			n, err := strconv.ParseUint(string(value), 10, 31)
			if err != nil || n > maxAnswerBytes {
				return 0, false, fmt.Errorf("Content-Length %.20q", value)
			}
			return int(n), false, nil
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			return 0, true, nil
		}
	}
	return 0, false, errNoLength
}

// joinChunks puts the chunks of a body together; done is false while the last
// one is missing.
func joinChunks(b []byte) (body []byte, done bool, err error) {
	for {
		line, rest, found := bytes.Cut(b, lineEnd)
		if !found {
			return nil, false, nil
		}
		n, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil || n > maxAnswerBytes {
			return nil, false, fmt.Errorf("chunk length %.20q", line)
		}
		if len(rest) < int(n)+len(lineEnd) {
			return nil, false, nil
		}
		body = append(body, rest[:n]...)
		b = rest[int(n)+len(lineEnd):]
		if n == 0 {
			return body, true, nil
		}
	}
}
