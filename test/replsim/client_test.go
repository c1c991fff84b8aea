package replsim

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"originchain/shared/lsn"
)

// A register is one row; its values are written once each.
const manifest = `
namespace = "sim"
table = "registers"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "i64"
[[columns]]
name = "value"
ty = "str"
`

const registers = 4

// input is what an operation on a register asks for.
type input struct {
	register int
	kind     string // read, put, cas
	value    string // written
	expect   string // cas: the value of the version that was sent
}

// output is what came of it.
type output struct {
	value   string
	ok      bool
	unknown bool // it may have happened, or happen yet
}

// registerModel is a register with compare-and-swap. An operation of unknown
// outcome returns at the end of time: that it happened there is that it never did.
var registerModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := make([][]porcupine.Operation, registers)
		for _, o := range history {
			r := o.Input.(input).register
			by[r] = append(by[r], o)
		}
		return by
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		i, o, now := in.(input), out.(output), state.(string)
		switch {
		case i.kind == "read":
			return o.value == now, now
		case i.kind == "put":
			return true, i.value
		case now == i.expect && (o.ok || o.unknown):
			return true, i.value
		}
		return o.unknown || (!o.ok && now != i.expect), now
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v %+v", in, out) },
}

// place is an LSN with its epoch, as an answer names it.
type place struct {
	at   lsn.Pos
	what string
}

// sight is what a read found that asked for all up to at; version is where the
// value was written.
type sight struct {
	register int
	at       lsn.Pos
	version  lsn.LSN
	value    string
}

// client is one closed loop.
type client struct {
	s    *sim
	id   int
	rng  *rand.Rand
	last lsn.Pos // the highest place it has seen
	seq  int
	// versions are what it read last of each register.
	version [registers]string
	value   [registers]string
	to      string // where it believes the writer to be
}

func (c *client) run(until time.Time) {
	c.to = c.s.names[0]
	for time.Now().Before(until) {
		<-time.After(time.Duration(1+c.rng.IntN(400)) * time.Millisecond)
		r := c.rng.IntN(registers)
		switch k := c.rng.IntN(10); {
		case k < 4:
			c.read(r, c.to, true)
		case k < 6:
			c.read(r, c.s.names[c.rng.IntN(len(c.s.names))], false)
		case k < 8 && c.version[r] != "":
			c.write(r, true)
		default:
			c.write(r, false)
		}
	}
}

func (c *client) path(r int) string {
	return "/v1/tenants/" + c.s.tenant + "/rows/sim.registers/" + strconv.Itoa(r)
}

// write puts a new value. What is answered counts, and what may have happened too.
func (c *client) write(r int, cas bool) {
	c.seq++
	in := input{register: r, kind: "put", value: fmt.Sprintf("%d.%d", c.id, c.seq)}
	headers := []string{"Content-Type", "application/json"}
	if cas {
		in.kind, in.expect = "cas", c.value[r]
		headers = append(headers, "If-Match", c.version[r])
	}
	began := time.Now()
	p, a := c.s.do(c.to, c.s.token, "PUT", c.path(r), fmt.Sprintf(`{"value":%q}`, in.value+strings.Repeat(" ", c.rng.IntN(300))), headers...)
	switch {
	case p == nil:
		c.other()
	case a == nil:
		c.record(in, output{unknown: true}, began)
		c.other()
	case a.status == 200:
		c.record(in, output{ok: true}, began)
		pos := c.seen(a, "a write of "+in.value)
		c.s.wrote(pos, in, a.header("X-OC-Replication") == "degraded")
		c.version[r], c.value[r] = field(a.body, "version"), in.value
	case a.status == 409 && a.code == "version_mismatch":
		if c.s.leads(p) {
			c.record(in, output{}, began)
		}
		c.version[r] = ""
	case a.status == 401 && !c.s.leads(p): // a follower that has not got the tenant yet
		c.other()
	case a.status == 503 && field(a.body, "outcome") == "" && (a.code == "read_only" || a.code == "not_ready" || a.code == "overloaded" || a.code == "fenced" || a.code == "lease_lost"):
		c.other()
	case a.status == 503 || a.status == 499:
		c.record(in, output{unknown: true}, began)
		c.other()
	default:
		c.s.fail("%s answered a write with %d: %s", c.to, a.status, a.body)
	}
}

func (c *client) other() { c.to = c.s.names[c.rng.IntN(len(c.s.names))] }

// read asks the writer for the newest value, or any node for one that is not older
// than what the client has seen.
func (c *client) read(r int, node string, newest bool) {
	headers := []string{}
	if !newest && c.last.LSN > 0 {
		headers = append(headers, "X-OC-Min-LSN", fmt.Sprint(uint64(c.last.LSN)), "X-OC-Min-Epoch", fmt.Sprint(uint64(c.last.Epoch)))
	}
	asked, began := c.last, time.Now()
	p, a := c.s.do(node, c.s.token, "GET", c.path(r), "", headers...)
	if a == nil {
		return
	}
	leads := c.s.leads(p)
	switch {
	case a.status == 200, a.status == 404:
	case a.status == 503 || a.status == 499 || a.status == 401 || (a.status == 409 && !leads):
		return // 401: a follower that has not got the tenant yet
	case a.code == "unknown_table" && !leads && (newest || asked.LSN == 0):
		return // nor the table, and nothing newer was asked for
	default:
		c.s.fail("%s answered a read with %d: %s (asked for %s)", node, a.status, a.body, asked)
		return
	}
	value := strings.TrimRight(field(a.body, "value"), " ")
	if a.status == 404 {
		if a.code == "" {
			c.s.fail("a 404 without an error: %s", a.body)
		}
		value = ""
	}
	if a.header("X-OC-LSN") == "" {
		return // 404 of the table: a follower that is behind
	}
	pos := c.seen(a, fmt.Sprintf("a read of register %d = %q at %s", r, value, node))
	if !newest && pos.LSN < asked.LSN {
		c.s.fail("%s answered at %s, behind %s, which was asked for", node, pos, asked)
	}
	version, _ := strconv.ParseUint(strings.Trim(a.header("ETag"), `"`), 10, 64)
	if newest {
		asked = lsn.Pos{}
	}
	c.s.saw(sight{r, asked, lsn.LSN(version), value})
	if leads && newest {
		c.record(input{register: r, kind: "read"}, output{value: value}, began)
		c.version[r], c.value[r] = strings.Trim(a.header("ETag"), `"`), value
		if value == "" {
			c.version[r] = ""
		}
	} else if newest {
		c.other()
	}
}

// seen notes where an answer stands: it must be on the line for ever.
func (c *client) seen(a *answer, what string) lsn.Pos {
	n, _ := strconv.ParseUint(a.header("X-OC-LSN"), 10, 64)
	e, _ := strconv.ParseUint(a.header("X-OC-Epoch"), 10, 64)
	pos := lsn.Pos{LSN: lsn.LSN(n), Epoch: lsn.Epoch(e)}
	if pos.LSN > c.last.LSN {
		c.last = pos
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.places = append(c.s.places, place{pos, what})
	return pos
}

func (c *client) record(in input, out output, began time.Time) {
	o := porcupine.Operation{ClientId: c.id, Input: in, Output: out, Call: began.UnixNano(), Return: time.Now().UnixNano()}
	if out.unknown {
		o.Return = math.MaxInt64
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.history = append(c.s.history, o)
}

// field is one field of a JSON object, "" where it has none.
func field(body, name string) string {
	var m map[string]any
	if json.Unmarshal([]byte(body), &m) != nil {
		return ""
	}
	switch v := m[name].(type) {
	case nil:
		return ""
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}
