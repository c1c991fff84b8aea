package proxy

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"originchain/shared/api"
)

// hopByHop are headers of one connection and not of the message. Host is not among
// them: the writer sees the name that the client asked for.
func hopByHop() []string {
	return []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}
}

// forwarded are what a proxy may say of a client. This one says nothing, and does not
// vouch for what a client says of itself.
func forwarded() []string {
	return []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}
}

// removeHop takes out what belongs to one connection, and what Connection names.
func removeHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.TrimString(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopByHop() {
		h.Del(name)
	}
}

// unseenKey is Idempotency-Key as the transport does not know it: by that name it would
// send a request again of its own accord. On the wire names have no case.
const unseenKey = "idempotency-key"

// requestHeader is the header of an attempt.
func requestHeader(r *http.Request) http.Header {
	h := r.Header.Clone()
	trailers := strings.Contains(strings.ToLower(strings.Join(h["Te"], ",")), "trailers")
	removeHop(h)
	for _, name := range forwarded() {
		h.Del(name)
	}
	if trailers {
		h.Set("Te", "trailers")
	}
	if v, ok := h[api.HeaderIdempotencyKey]; ok {
		delete(h, api.HeaderIdempotencyKey)
		h[unseenKey] = v
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // else the transport names itself
	}
	return h
}

// requestURL is where an attempt goes: the writer, and the client's path as it was.
func requestURL(base, u *url.URL) *url.URL {
	out := *u
	out.Scheme, out.Host, out.User, out.Fragment = base.Scheme, base.Host, nil, ""
	return &out
}
