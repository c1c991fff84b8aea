package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/lsn"
)

// format is the version of every document of an archive. A higher one is refused.
const format = 1

// Bounds of what is read and written.
const (
	// maxDocumentBytes bounds a document that lists nothing.
	maxDocumentBytes = 64 << 10
	// maxManifestBytes bounds a document that lists files, and maxFiles how many.
	maxManifestBytes = 32 << 20
	maxFiles         = 100_000
	// maxTextBytes bounds a name that somebody chose: of a node, a region, a file.
	maxTextBytes = 255
)

// Head begins every document.
type Head struct {
	Format   int       `json:"format"`
	Instance ulid.ULID `json:"instance_id"`
	// Check is the beginning of the SHA-256 of the document without it: a flipped
	// bit in a number is still a number. In a manifest it covers all but the files.
	Check string `json:"check"`
}

func (h *Head) head() *Head { return h }

// Instance says whose archive this is, and where it may be written from.
type Instance struct {
	Head
	Region string    `json:"region"`
	Time   time.Time `json:"time"`
}

// Epoch is where an epoch begins: behind frame FirstLSN-1 of its parent, whose
// chain value is ParentChain. An epoch with parent 0 and a FirstLSN above 1 is one
// whose beginning no node had any more when the archive was begun.
type Epoch struct {
	Head
	Epoch       lsn.Epoch `json:"epoch"`
	Parent      lsn.Epoch `json:"parent_epoch"`
	FirstLSN    lsn.LSN   `json:"first_lsn"`
	ParentChain lsn.Chain `json:"parent_chain"`
	// Node created the object; for an epoch that it did not write it is an heir.
	Node string    `json:"node"`
	Time time.Time `json:"time"`
	// Nonce tells the node that allotted the epoch from another that tried.
	Nonce string `json:"nonce"`
}

// File is one file of a checkpoint.
type File struct {
	// Name is the file's in the directory of the state.
	Name   string    `json:"name"`
	Size   int64     `json:"size"`
	SHA256 lsn.Chain `json:"sha256"`
	// Generation is that of its FileKey.
	Generation uint32 `json:"generation,omitempty"`
}

// Key is where the file's bytes are.
func (f *File) Key() FileKey { return FileKey{SHA256: f.SHA256, Generation: f.Generation} }

// Checkpoint is what a manifest says of the state, without its files.
type Checkpoint struct {
	Head
	// LSN, Epoch, Chain and Stamp (in microseconds) are those of the last frame in
	// the state, Digest is the state's.
	LSN    lsn.LSN    `json:"lsn"`
	Epoch  lsn.Epoch  `json:"epoch"`
	Chain  lsn.Chain  `json:"chain"`
	Digest lsn.Digest `json:"digest"`
	Stamp  int64      `json:"stamp_micros"`
	Node   string     `json:"node"`
	Time   time.Time  `json:"time"`
	// Rewrite is that of its key: the purges that have rewritten it.
	Rewrite uint32 `json:"rewrite,omitempty"`
	// Purges is how many purges the state was built behind. A checkpoint of fewer than
	// the archive has had does not count.
	Purges uint64 `json:"purges,omitempty"`
	// Bytes is the size of all files together, FilesSHA256 the hash of their list.
	Bytes       int64     `json:"bytes"`
	FilesSHA256 lsn.Chain `json:"files_sha256"`
}

// Key is the name of its manifest.
func (d *Checkpoint) Key() CheckpointKey {
	return CheckpointKey{LSN: d.LSN, Epoch: d.Epoch, Rewrite: d.Rewrite}
}

// Manifest is a checkpoint and its files, by name.
type Manifest struct {
	Checkpoint
	Files []File `json:"files"`
}

// Pending announces a checkpoint. Whatever has one of the contents is needed.
type Pending struct {
	Head
	LSN   lsn.LSN   `json:"lsn"`
	Epoch lsn.Epoch `json:"epoch"`
	Node  string    `json:"node"`
	Time  time.Time `json:"time"`
	// Purges is that of the checkpoint to be.
	Purges uint64      `json:"purges,omitempty"`
	SHA256 []lsn.Chain `json:"sha256"`
}

// Gap records that the frames From to To of the line of Epoch are in no archive.
type Gap struct {
	Head
	Epoch lsn.Epoch `json:"epoch"`
	From  lsn.LSN   `json:"from_lsn"`
	To    lsn.LSN   `json:"to_lsn"`
	Node  string    `json:"node"`
	Time  time.Time `json:"time"`
}

// KeptFrom is the lowest frame of an epoch that a retention run kept.
type KeptFrom struct {
	Epoch lsn.Epoch `json:"epoch"`
	From  lsn.LSN   `json:"from_lsn"`
}

// Boundary announces what a retention run may remove, before it removes anything.
type Boundary struct {
	Head
	Number uint64    `json:"number"`
	Time   time.Time `json:"time"`
	// Until is the oldest moment that stays restorable.
	Until time.Time `json:"until"`
	// Highest is the newest epoch of the run; one up to it that Kept does not name
	// is needed by no point any more.
	Highest lsn.Epoch  `json:"highest_epoch"`
	Kept    []KeptFrom `json:"kept"`
	// Condemned are names of files that may be gone, and are never used again.
	Condemned []string `json:"condemned"`
	// Manifests are checkpoints that may be gone.
	Manifests []string `json:"manifests"`
}

// NewerError says that a document was written by a newer version of the product.
type NewerError struct {
	What   string
	Format int
}

// Error implements error.
func (e *NewerError) Error() string {
	return fmt.Sprintf("%s has format %d, this version knows up to %d; use the version that wrote it or a later one", e.What, e.Format, format)
}

// document is what encode and decode handle.
type document interface {
	head() *Head
	// check reports what a document that can be read does not say, or says wrong.
	check() error
}

// checkDigits is how many hex digits Check has.
const checkDigits = 16

// encode gives the one form that a document has, and sets its Check.
func encode(d document) ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	covered := any(d)
	if m, ok := d.(*Manifest); ok {
		list, err := json.Marshal(m.Files)
		if err != nil {
			return nil, err
		}
		m.FilesSHA256, covered = sha256.Sum256(list), &m.Checkpoint
	}
	h := d.head()
	h.Check = ""
	b, err := json.Marshal(covered)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	h.Check = hex.EncodeToString(sum[:])[:checkDigits]
	b, err = json.Marshal(d)
	return append(b, '\n'), err
}

// errAltered says that a document is not what encode has given.
var errAltered = errors.New("it is not as it was written")

// filesList is what ends the part of a manifest that its Check covers.
const filesList = `,"files":[`

// newer tells a document of a later version, which no reading again makes one of ours,
// from a flipped digit, which a reading again may mend: every version has its Check
// where this one has it.
func newer(b []byte, what string, got int) error {
	const field = `"check":"`
	head, _, listed := bytes.Cut(bytes.TrimSuffix(b, []byte("\n")), []byte(filesList))
	if listed {
		head = append(bytes.Clone(head), '}')
	}
	before, after, ok := bytes.Cut(head, []byte(field))
	if !ok || len(after) < checkDigits {
		return errAltered
	}
	sum := sha256.Sum256(slices.Concat(before, []byte(field), after[checkDigits:]))
	if hex.EncodeToString(sum[:])[:checkDigits] != string(after[:checkDigits]) {
		return errAltered
	}
	return &NewerError{What: what, Format: got}
}

// decode reads a document strictly: it must be, byte for byte, what encode gives,
// so there is no field that is unknown, missing or doubled, no bit that has flipped,
// and nothing behind it.
func decode(b []byte, what string, into document) error {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return err
	}
	if version.Format > format {
		return newer(b, what, version.Format)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return err
	}
	again, err := encode(into)
	if err != nil {
		return err
	}
	if !bytes.Equal(b, again) {
		return errAltered
	}
	return nil
}

// common are the checks that all documents share.
func common(h *Head, at time.Time, texts ...string) error {
	switch {
	case h.Format != format:
		return fmt.Errorf("format %d is none", h.Format)
	case h.Instance.IsZero():
		return errors.New("it names no instance")
	case at.Location() != time.UTC || at.Nanosecond()%1000 != 0 || at.Year() < 1 || at.Year() > 9999:
		return fmt.Errorf("%s is not a time in UTC, in microseconds", at)
	}
	for _, s := range texts {
		if len(s) > maxTextBytes {
			return fmt.Errorf("a name has %d bytes, the most is %d", len(s), maxTextBytes)
		}
	}
	return nil
}

func (d *Instance) check() error { return common(&d.Head, d.Time, d.Region) }

func (d *Epoch) check() error {
	if err := common(&d.Head, d.Time, d.Node, d.Nonce); err != nil {
		return err
	}
	switch {
	case d.Epoch == 0 || d.FirstLSN == 0 || d.Parent >= d.Epoch:
		return fmt.Errorf("epoch %d cannot begin at LSN %d behind epoch %d", d.Epoch, d.FirstLSN, d.Parent)
	case d.FirstLSN == 1 && (d.Parent != 0 || d.ParentChain != lsn.Chain{}):
		return errors.New("what begins at LSN 1 has no parent")
	}
	return nil
}

func (d *Checkpoint) check() error {
	if err := common(&d.Head, d.Time, d.Node); err != nil {
		return err
	}
	if !d.Key().valid() || d.Bytes < 0 {
		return fmt.Errorf("there is no checkpoint of %d bytes at LSN %d of epoch %d", d.Bytes, d.LSN, d.Epoch)
	}
	return nil
}

func (d *Manifest) check() error {
	if err := d.Checkpoint.check(); err != nil {
		return err
	}
	if len(d.Files) == 0 || len(d.Files) > maxFiles {
		return fmt.Errorf("%d files, it can be 1 to %d", len(d.Files), maxFiles)
	}
	var sum int64
	for i := range d.Files {
		f := &d.Files[i]
		if !plainName(f.Name) || f.Size < 0 || i > 0 && f.Name <= d.Files[i-1].Name {
			return fmt.Errorf("file %d, %q of %d bytes, is none", i, f.Name, f.Size)
		}
		if sum += f.Size; sum < 0 {
			return errors.New("the sizes do not add up")
		}
	}
	if sum != d.Bytes {
		return fmt.Errorf("the files have %d bytes together, not %d", sum, d.Bytes)
	}
	return nil
}

// plainName reports a name that stays in the directory it is put in.
func plainName(s string) bool {
	if s == "" || len(s) > maxTextBytes || s == "." || s == ".." {
		return false
	}
	for _, r := range []byte(s) {
		if r <= ' ' || r > '~' || r == '/' || r == '\\' {
			return false
		}
	}
	return true
}

func (d *Pending) check() error {
	if err := common(&d.Head, d.Time, d.Node); err != nil {
		return err
	}
	if d.LSN == 0 || d.Epoch == 0 || len(d.SHA256) == 0 || len(d.SHA256) > maxFiles {
		return fmt.Errorf("there is no checkpoint of %d files at LSN %d of epoch %d", len(d.SHA256), d.LSN, d.Epoch)
	}
	return nil
}

func (d *Gap) check() error {
	if err := common(&d.Head, d.Time, d.Node); err != nil {
		return err
	}
	if !d.Key().valid() {
		return fmt.Errorf("LSN %d to %d of epoch %d is no gap", d.From, d.To, d.Epoch)
	}
	return nil
}

// Key is the name of the record.
func (d *Gap) Key() GapKey { return GapKey{Epoch: d.Epoch, From: d.From, To: d.To} }

func (d *Boundary) check() error {
	if err := common(&d.Head, d.Time); err != nil {
		return err
	}
	if err := common(&d.Head, d.Until); err != nil {
		return err
	}
	if d.Number == 0 || len(d.Condemned) > maxFiles || len(d.Manifests) > maxFiles {
		return fmt.Errorf("boundary %d with %d files is none", d.Number, len(d.Condemned))
	}
	for i, k := range d.Kept {
		if k.Epoch == 0 || k.From == 0 || k.Epoch > d.Highest || i > 0 && k.Epoch <= d.Kept[i-1].Epoch {
			return fmt.Errorf("LSN %d of epoch %d cannot be kept", k.From, k.Epoch)
		}
	}
	for _, name := range d.Condemned {
		if k, err := ParseKey(name); err != nil {
			return err
		} else if _, ok := k.(FileKey); !ok {
			return &KeyError{name}
		}
	}
	for _, name := range d.Manifests {
		if k, err := ParseKey(name); err != nil {
			return err
		} else if _, ok := k.(CheckpointKey); !ok {
			return &KeyError{name}
		}
	}
	return nil
}

// moment is a time as documents hold it.
func moment(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
