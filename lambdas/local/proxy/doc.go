// Package proxy is the stable endpoint of an instance: it sends every request to the
// writer of the highest epoch it has heard of, and holds requests while that changes.
//
// A request is sent again only if that cannot do twice what was asked once:
//
//   - what was never sent: no connection, or not a byte written to it;
//   - GET and HEAD;
//   - with an Idempotency-Key, off /v1/admin (where a repeated key is 409), as the
//     writer then gives the first answer again;
//   - what the writer refused with a 503 that proves that nothing was appended.
//
// Anything else whose answer did not come is 503 with "outcome":"unknown". What the
// codes of a 503 prove, and what is done:
//
//	code                 without outcome                     with outcome unknown
//	read_only, retry     not appended: sent again            -
//	read_only, no retry  not appended: passed on, as no      -
//	                     switch helps (a restored copy)
//	fenced               not appended: sent again            sent again if keyed or safe
//	lease_lost           not appended: sent again            sent again if keyed or safe
//	not_ready            not appended: sent again; passed    sent again if keyed or safe
//	                     on under /v1/admin, where it says
//	                     more than that a node starts
//	overloaded           not appended: passed on, as holding -
//	                     would be a queue before a full one
//	lsn_not_reached      a read: passed on, it names how far -
//	replication_timeout  -                                   passed on: the answer of
//	                                                         strict sync, no switch
//	any other            passed on                           passed on
//
// Two kinds of requests make exceptions. A _batch without a key commits in chunks: a 503
// says nothing about the chunks before, so it is passed on. A request of a transaction
// (X-OC-Tx, or below /tx/) belongs to one node: it is sent again to that one alone, and
// only if it was not sent; and answered 503 fenced once another node writes.
//
// A body is recorded while it is sent on, so that streams stream; one that outgrows
// Config.MaxBodyBytes, or for which all bodies together have no room, is sent on
// unrecorded, and its request is not sent again once part of it was read.
//
// An answer of known length up to answerAheadBytes is read whole before anything of it is
// sent on: a writer killed in the middle of it is an answer that did not come. A longer
// one that breaks breaks the client's connection, so that half is never taken for whole.
package proxy
