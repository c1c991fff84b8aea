// Package leasehttp serves lease records over HTTP, and is a lease.Store of records
// that are served so: the control plane of one machine keeps them in files, and its
// nodes reach them over a connection that can be cut, as they would any other store.
//
//	GET /v1/leases/{name}   200 the record, 404 there is none
//	PUT /v1/leases/{name}   the next record; If-Match: "<version>", or If-None-Match: *
//	                        for the first. 200 the record as stored; 412 another one
//	                        stands there, which is the body, or none (empty)
//
// Both want the bearer token of the control plane. Any other answer to a PUT than
// these, 400 and 401 leaves open whether it took effect.
package leasehttp

import "time"

const (
	pathPrefix = "/v1/leases/"
	// answerTimeout bounds a request: a renewal that takes longer is no good, since its
	// holder has fenced itself by then.
	answerTimeout = 3 * time.Second
)
