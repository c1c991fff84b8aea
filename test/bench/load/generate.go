package load

import (
	"fmt"
	"math/rand/v2"
	"strconv"
)

// generator writes requests.
type generator struct {
	spec   *Spec
	head   []byte // up to the part that differs
	nextID int64
}

func newGenerator(s *Spec) *generator {
	g := &generator{spec: s}
	g.nextID = s.FirstID
	common := fmt.Sprintf(" HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n", s.Address, s.Token)
	base := "/v1/tenants/" + s.Tenant
	switch s.Kind {
	case Insert:
		g.head = []byte("POST " + base + "/rows/" + s.Schema + common + "Content-Type: application/json\r\nContent-Length: ")
	case Read:
		g.head = []byte(common + "\r\n")
	case Query:
		g.head = []byte("POST " + base + "/sql" + common + "Content-Type: application/json\r\nContent-Length: ")
	case Health:
		g.head = []byte("GET /health" + common + "\r\n")
	}
	return g
}

// append adds one request to dst.
func (g *generator) append(dst []byte, rng *rand.Rand) []byte {
	switch g.spec.Kind {
	case Insert:
		return g.insert(dst, rng)
	case Read:
		dst = append(dst, "GET /v1/tenants/"...)
		dst = append(dst, g.spec.Tenant...)
		dst = append(dst, "/rows/"...)
		dst = append(dst, g.spec.Schema...)
		dst = append(dst, '/')
		dst = strconv.AppendInt(dst, 1+rng.Int64N(g.spec.Rows), 10)
	case Query:
		return g.query(dst, rng)
	}
	return append(dst, g.head...)
}

func (g *generator) insert(dst []byte, rng *rand.Rand) []byte {
	var body [256]byte
	b := append(body[:0], `{"id":`...)
	b = strconv.AppendInt(b, g.nextID, 10)
	g.nextID++
	b = append(b, `,"date":"2001/01/14 21:55","delay":`...)
	b = strconv.AppendInt(b, rng.Int64N(200)-40, 10)
	b = append(b, `,"distance":`...)
	b = strconv.AppendInt(b, 100+rng.Int64N(2500), 10)
	b = append(b, `,"origin":"HNL","destination":"SFO"}`...)
	return withBody(append(dst, g.head...), b)
}

// query asks for the newest flights of one origin: an index range, then rows.
func (g *generator) query(dst []byte, rng *rand.Rand) []byte {
	var body [256]byte
	b := append(body[:0], `{"sql":"SELECT id, date, delay, destination FROM `...)
	b = append(b, g.spec.Schema...)
	b = append(b, ` WHERE origin = ? LIMIT 20","params":["`...)
	b = append(b, g.spec.Origins[rng.IntN(len(g.spec.Origins))]...)
	b = append(b, `"]}`...)
	return withBody(append(dst, g.head...), b)
}

func withBody(dst, body []byte) []byte {
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, body...)
}
