package proxy

import (
	"encoding/json"
	"net/http"
	"strings"

	"originchain/shared/api"
	"originchain/shared/fault"
)

// traits are what of a request decides how often it may be sent.
type traits struct {
	// safe: GET or HEAD.
	safe bool
	// keyed: the writer gives its first answer again.
	keyed bool
	// tx: it belongs to a transaction, and so to one node.
	tx bool
	// batch: it commits in more than one frame.
	batch bool
	// admin: below /v1/admin.
	admin bool
	// probe: it asks how the node is; an old answer is none, so it is not held.
	probe bool
}

func traitsOf(r *http.Request) traits {
	path := r.URL.Path
	t := traits{
		safe:  r.Method == http.MethodGet || r.Method == http.MethodHead,
		admin: strings.HasPrefix(path, "/v1/admin/"),
		batch: strings.HasSuffix(path, "/_batch"),
		probe: path == "/health" || path == "/ready" || path == "/metrics",
		tx:    r.Header.Get(api.HeaderTx) != "",
	}
	if _, below, ok := strings.Cut(path, "/tx/"); ok && strings.HasPrefix(path, "/v1/tenants/") && below != "begin" && !strings.Contains(path, "/rows/") {
		t.tx = true
	}
	t.keyed = r.Header.Get(api.HeaderIdempotencyKey) != "" && !t.admin && !t.tx
	return t
}

// repeatable says whether the request may be sent again when nobody knows what became
// of it before.
func (t traits) repeatable() bool { return (t.safe || t.keyed) && !t.tx && !t.probe }

// proof is what an answer says of a request.
type proof int

const (
	final       proof = iota // it stands, whatever it says
	notAppended              // nothing was appended, and another attempt can succeed
	undecided                // it may have been appended, and another attempt tells
)

// refusal is the envelope of a 503.
type refusal struct {
	Error   fault.Code `json:"error"`
	Retry   bool       `json:"retry"`
	Outcome string     `json:"outcome"`
	Leader  string     `json:"leader"`
}

// outcomeUnknown is the one value of "outcome".
const outcomeUnknown = "unknown"

// readRefusal reads the body of a 503. One that is no envelope, as that of /ready, is the
// zero value, which proves nothing.
func readRefusal(body []byte) (r refusal) {
	if json.Unmarshal(body, &r) != nil {
		return refusal{}
	}
	return r
}

// proves is the table of the package's comment.
func (r refusal) proves(t traits) proof {
	switch r.Error {
	case fault.ReadOnly:
		if !r.Retry {
			return final
		}
	case fault.NotReady:
		if t.admin {
			return final
		}
	case fault.Fenced, fault.LeaseLost:
	default:
		return final
	}
	switch {
	case t.tx || t.probe:
		return final
	case r.Outcome != "":
		if t.repeatable() {
			return undecided
		}
		return final
	case t.batch && !t.repeatable():
		return final
	}
	return notAppended
}

// decides says whether a status tells, of a request that was sent before and may have
// been appended then, what became of it. What is refused before the key is looked at
// tells nothing.
func decides(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, fault.StatusCancelled:
		return false
	}
	return status < http.StatusInternalServerError
}
