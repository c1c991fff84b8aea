// Package lease is the one record that says who writes an instance: the epoch,
// its holder, the followers that acknowledgements wait for, and who may open
// next. Epoch, holder and set are one record because each of them decides what
// the others mean: a set without its epoch, or an epoch without its set, could be
// read half old and half new. So every change is one compare-and-set.
//
//   - Record is the data, with its stable JSON (Encode, Decode) and Validate.
//   - MayOpen, Take, Confirm, Enter, Leave, Renew and Release are the rules: pure
//     functions from a record to the next one. They decide nothing about time.
//     That a holder's lease has run out, or was released, is for the caller to
//     know before it takes the record for another node.
//   - Store keeps a record; Memory and File are two, leasetest is their contract.
//
// The life of an epoch: Take names the node and the epoch, before that node's
// first append. Until Confirm nothing of the epoch is acknowledged or visible, so
// another node that holds everything acknowledged may still take its place.
// Confirm fixes the line and the set, and acknowledgements begin.
package lease

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"

	"originchain/shared/lsn"
)

// Limits of a record.
const (
	// MaxLine is how many openings a record remembers. Take drops the oldest
	// beyond it, but never that of the last confirmed epoch. A node whose log ends
	// in an epoch that was dropped cannot be told from one that forked: it may not
	// open, and follows; the handshake of replication compares its history by
	// chain value and needs no line.
	MaxLine = 256
	// MaxMembers bounds InSync; Eligible has room for the holder too.
	MaxMembers = 64
	// MaxNodeBytes bounds the length of a node's id.
	MaxNodeBytes = 128
	// maxAddressBytes bounds an address.
	maxAddressBytes = 512
	// MaxRecordBytes is more than any valid record has when encoded.
	MaxRecordBytes = 128 << 10
)

// formatVersion is the layout of an encoded record.
const formatVersion = 1

// ErrNewerFormat says that a newer server wrote the record.
var ErrNewerFormat = errors.New("the lease record was written by a newer server")

// Record is the state of one instance's lease. The zero Record stands for an
// instance that has none yet. Slices are sorted, nil when empty, and never
// changed by a rule: each returns a record of its own.
type Record struct {
	// Instance is the ULID of the instance.
	Instance string `json:"instance"`
	// Version is the token of the compare-and-set: 1 for the first record, one
	// more with each write. The store sets it.
	Version uint64 `json:"version"`
	// Epoch is the newest epoch that was taken, Holder the id of the node that
	// took it or was given it.
	Epoch  lsn.Epoch `json:"epoch"`
	Holder string    `json:"holder"`
	// ConfirmedEpoch is the last epoch that was confirmed, 0 for none.
	ConfirmedEpoch lsn.Epoch `json:"confirmed_epoch"`
	// ReplicationAddress is the host:port that followers stream from, empty if the
	// holder serves no followers; URL is where clients reach the holder.
	ReplicationAddress string `json:"replication_address"`
	URL                string `json:"url"`
	// Place is where the holder's data directory is (PlaceOf), empty if that is not
	// known. A node of the same id at another place waits like anybody.
	Place string `json:"place,omitempty"`
	// Released: the holder has stopped, and says so or its supervisor does. Nobody
	// waits for its lease to run out.
	Released bool `json:"released"`
	// CommitLSN is the highest LSN that the holder had told the store it may
	// acknowledge; the truth is at or above it. It falls only by an accepted loss
	// (Candidate.AcceptLoss).
	CommitLSN lsn.LSN `json:"commit_lsn"`
	// SyncReplicas is how many followers acknowledgements are to wait for, as the node
	// that confirmed last was told; 0: for none, and the set is unused. Above 0, an empty
	// set is one that every follower has left, and what was acknowledged since is in none.
	SyncReplicas int `json:"sync_replicas"`
	// InSync are the followers that every acknowledgement of this epoch waits for.
	// Empty before Confirm.
	InSync []string `json:"in_sync,omitempty"`
	// Eligible are the nodes that hold all that was acknowledged up to the last
	// confirmed epoch. Empty from Confirm on.
	Eligible []string `json:"eligible,omitempty"`
	// Line are the openings that are remembered, newest last. Those up to
	// ConfirmedEpoch are its line, each the parent of the next. Those after it were
	// taken and not confirmed; they may branch, and Confirm keeps its ancestors.
	Line []Opening `json:"line"`
}

// Opening is where an epoch begins: at FirstLSN, behind frames of Parent (0: the
// log was empty). For an epoch that is not confirmed it is where the node's log
// ended when the record was taken, which may be before the epoch's real start.
type Opening struct {
	Epoch    lsn.Epoch `json:"epoch"`
	FirstLSN lsn.LSN   `json:"first_lsn"`
	Parent   lsn.Epoch `json:"parent"`
}

// Confirmed reports whether the holder may acknowledge: the second
// compare-and-set of its epoch has happened.
func (r Record) Confirmed() bool { return r.Epoch != 0 && r.ConfirmedEpoch == r.Epoch }

// clone shares nothing with r.
func (r Record) clone() Record {
	r.InSync, r.Eligible, r.Line = slices.Clone(r.InSync), slices.Clone(r.Eligible), slices.Clone(r.Line)
	return r
}

// Validate lists everything that is wrong with a record that a store is to keep
// or has kept, as one joined error.
func (r Record) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	id, err := ulid.ParseStrict(r.Instance)
	fault(err != nil || id.String() != r.Instance, "instance %q is not a ULID in upper case", r.Instance)
	fault(r.Version == 0, "version is 0")
	fault(r.Epoch == 0, "epoch is 0")
	fault(!validNode(r.Holder), "holder %q is not a node id: 1 to %d printable bytes without spaces", r.Holder, MaxNodeBytes)
	fault(r.ConfirmedEpoch > r.Epoch, "confirmed_epoch %d is above epoch %d", r.ConfirmedEpoch, r.Epoch)
	fault(r.ReplicationAddress != "" && !validHostPort(r.ReplicationAddress), "replication_address %q is not host:port", r.ReplicationAddress)
	fault(len(r.Place) > maxPlaceBytes || strings.ContainsFunc(r.Place, func(c rune) bool { return c <= ' ' || c > '~' }), "place is not up to %d printable bytes without spaces", maxPlaceBytes)
	fault(!validURL(r.URL), "url %q is not http://host or https://host", r.URL)
	fault(r.SyncReplicas < 0 || r.SyncReplicas > MaxMembers, "sync_replicas %d is not 0 to %d", r.SyncReplicas, MaxMembers)
	faults = append(faults, setFaults("in_sync", r.InSync, MaxMembers)...)
	faults = append(faults, setFaults("eligible", r.Eligible, MaxMembers+1)...)
	fault(slices.Contains(r.InSync, r.Holder), "in_sync holds the holder %q", r.Holder)
	fault(r.Confirmed() && len(r.Eligible) > 0, "eligible is not empty in a confirmed epoch")
	fault(!r.Confirmed() && len(r.InSync) > 0, "in_sync is not empty before the epoch is confirmed")
	return errors.Join(append(faults, r.lineFaults()...)...)
}

// setFaults lists what is wrong with a set of nodes.
func setFaults(name string, nodes []string, most int) (faults []error) {
	if len(nodes) > most {
		faults = append(faults, fmt.Errorf("%s has %d nodes, at most %d", name, len(nodes), most))
	}
	for i, n := range nodes {
		if !validNode(n) {
			faults = append(faults, fmt.Errorf("%s holds %q, which is not a node id", name, n))
		}
		if i > 0 && nodes[i-1] >= n {
			faults = append(faults, fmt.Errorf("%s is not sorted, or holds %q twice", name, n))
		}
	}
	return faults
}

// lineFaults lists what is wrong with Line.
func (r Record) lineFaults() (faults []error) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("line: "+format, args...)) }
	if n := len(r.Line); n == 0 || n > MaxLine {
		fault("%d openings, want 1 to %d", n, MaxLine)
	}
	found := r.ConfirmedEpoch == 0
	for i, o := range r.Line {
		found = found || o.Epoch == r.ConfirmedEpoch
		if o.FirstLSN == 0 || o.Parent >= o.Epoch {
			fault("epoch %d opens at LSN %d behind epoch %d", o.Epoch, o.FirstLSN, o.Parent)
		}
		if i == 0 {
			continue
		}
		prev := r.Line[i-1]
		if prev.Epoch >= o.Epoch {
			fault("epoch %d comes after epoch %d", o.Epoch, prev.Epoch)
		}
		if o.Epoch <= r.ConfirmedEpoch && (o.Parent != prev.Epoch || o.FirstLSN <= prev.FirstLSN) {
			fault("epoch %d does not continue epoch %d", o.Epoch, prev.Epoch)
		}
	}
	if n := len(r.Line); n > 0 && r.Line[n-1].Epoch != r.Epoch {
		fault("it ends with epoch %d, the record is of epoch %d", r.Line[n-1].Epoch, r.Epoch)
	}
	if !found {
		fault("the confirmed epoch %d is missing", r.ConfirmedEpoch)
	}
	return faults
}

func validNode(id string) bool {
	return id != "" && len(id) <= MaxNodeBytes && !strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' })
}

func validHostPort(s string) bool {
	_, port, err := net.SplitHostPort(s)
	n, bad := strconv.ParseUint(port, 10, 16)
	return err == nil && bad == nil && n != 0 && len(s) <= maxAddressBytes
}

func validURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && len(s) <= maxAddressBytes
}

// encoded is a record as bytes: the format first, so that a reader can tell what
// the rest is.
type encoded struct {
	Format int `json:"format"`
	Record
}

// Encode returns the record as one line of JSON. It fails if the record is not
// valid: nothing invalid is ever stored.
func (r Record) Encode() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("the lease record is not valid: %w", err)
	}
	b, err := json.Marshal(encoded{formatVersion, r})
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// Decode reads what Encode wrote. It fails with ErrNewerFormat for a higher
// format or a field it does not know, because what an unknown field says could
// forbid what the known ones allow; and with what is wrong for anything else.
func Decode(b []byte) (Record, error) {
	if len(b) > MaxRecordBytes {
		return Record{}, fmt.Errorf("%d bytes, at most %d", len(b), MaxRecordBytes)
	}
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return Record{}, err
	}
	if head.Format > formatVersion {
		return Record{}, fmt.Errorf("%w: format %d, this one knows up to %d", ErrNewerFormat, head.Format, formatVersion)
	} else if head.Format < 1 {
		return Record{}, fmt.Errorf("format is %d", head.Format)
	}
	var lenient encoded
	if err := json.Unmarshal(b, &lenient); err != nil {
		return Record{}, err
	}
	// Only an unknown field can fail now.
	strict := json.NewDecoder(bytes.NewReader(b))
	strict.DisallowUnknownFields()
	if err := strict.Decode(new(encoded)); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrNewerFormat, err)
	}
	if err := lenient.Validate(); err != nil {
		return Record{}, err
	}
	return lenient.Record, nil
}
