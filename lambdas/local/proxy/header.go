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

// transportKeys are headers with which the transport would send a request again of its
// own accord, be it one that the writer does not know and that makes nothing safe.
func transportKeys() []string { return []string{api.HeaderIdempotencyKey, "X-Idempotency-Key"} }

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
	for _, name := range transportKeys() {
		if v, ok := h[name]; ok {
			delete(h, name)
			h[strings.ToLower(name)] = v // which the transport does not know; on the wire names have no case
		}
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
