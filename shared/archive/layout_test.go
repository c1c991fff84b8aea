package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"originchain/shared/lsn"
)

func everyKey() []Key {
	sum := [32]byte{0xAB, 31: 1}
	return []Key{
		InstanceKey{}, EpochKey{0x1F}, SegmentKey{Epoch: 1, First: 2, Last: 0xABCDEF}, SegmentKey{Epoch: 1, First: 2, Last: 3, Rewrite: 12},
		PartKey{Epoch: 1, Segment: 2, From: 3, To: 4}, PartKey{Epoch: 1, Segment: 2, From: 3, To: 4, Rewrite: 7}, CheckpointKey{LSN: 9, Epoch: 2}, CheckpointKey{LSN: 9, Epoch: 2, Rewrite: 12}, PendingKey{CheckpointKey{LSN: 9, Epoch: 2}, 0xDEAD},
		FileKey{SHA256: sum}, FileKey{SHA256: sum, Generation: 3}, GapKey{Epoch: 1, From: 2, To: 3}, BoundaryKey{7}, RedactionKey{"01JADE0000000000000000000A"},
	}
}

func TestKeysRoundTrip(t *testing.T) {
	for _, k := range everyKey() {
		if got, err := ParseKey(k.String()); err != nil || got != k {
			t.Errorf("%s: %v, %v", k, got, err)
		}
	}
}

func TestNamesThatAreNone(t *testing.T) {
	bad := []string{"", "/", "instance.json2", "epochs/1.json", "epochs/0000000000000000.json", "log/0000000000000001/0000000000000003-0000000000000002.seg.zst",
		"boundaries/0000000000000000.json", "tail/0000000000000001/0000000000000005/0000000000000004-0000000000000006.part.zst", "unknown/x"}
	for _, k := range everyKey() {
		s := k.String()
		bad = append(bad, s+"x", " "+s, s[:len(s)-1]+"\x00", strings.Replace(s, "/", "//", 1)+"/", strings.ToUpper(s))
	}
	for _, name := range bad {
		var none *KeyError
		if k, err := ParseKey(name); !errors.As(err, &none) {
			t.Errorf("%q is taken for %#v", name, k)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	for _, k := range everyKey() {
		f.Add(k.String())
	}
	f.Fuzz(func(t *testing.T, name string) {
		if k, err := ParseKey(name); err == nil && k.String() != name {
			t.Errorf("%q reads as %q", name, k)
		}
	})
}

func everyDocument() map[string]document {
	h := Head{Format: format, Instance: testInstance}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	return map[string]document{
		"redaction": &Redaction{Head: h, ID: "01JADE0000000000000000000A", Plan: "ab", Actor: "a", Tenant: testInstance, Schema: "a.b", Time: at,
			Frames: []RedactedFrame{{3, 9, lsn.Chain{1}}}, Intervals: []Interval{{Epoch: 3, From: 9, To: 9, Counters: []Share{{Table: 1, Entries: 1, Bytes: 8}}}},
			Replaced: []Replaced{{SegmentKey{Epoch: 3, First: 9, Last: 9}.String(), SegmentKey{Epoch: 3, First: 9, Last: 9, Rewrite: 1}.String()}}, Erased: []string{FileKey{}.String()}},
		"instance":   &Instance{Head: h, Region: "eu-central-1", Time: at},
		"epoch":      &Epoch{Head: h, Epoch: 3, Parent: 2, FirstLSN: 9, ParentChain: lsn.Chain{1}, Node: "n", Time: at, Nonce: "ff"},
		"checkpoint": &Manifest{Checkpoint: Checkpoint{Head: h, LSN: 9, Epoch: 3, Stamp: 5, Node: "n", Time: at, Bytes: 7}, Files: []File{{Name: "a", Size: 3}, {Name: "b.sst", Size: 4, Generation: 1}}},
		"pending":    &Pending{Head: h, LSN: 9, Epoch: 3, Node: "n", Time: at, SHA256: []lsn.Chain{{1}, {2}}},
		"gap":        &Gap{Head: h, Epoch: 3, From: 1, To: 8, Node: "n", Time: at},
		"boundary": &Boundary{Head: h, Number: 4, Time: at, Until: at, Highest: 3, Kept: []KeptFrom{{2, 5}, {3, 9}},
			Condemned: []string{FileKey{SHA256: [32]byte{1}}.String()}, Manifests: []string{CheckpointKey{LSN: 1, Epoch: 1}.String()}},
	}
}

func empty(name string) document {
	return map[string]document{"instance": &Instance{}, "epoch": &Epoch{}, "checkpoint": &Manifest{}, "pending": &Pending{}, "gap": &Gap{}, "boundary": &Boundary{}, "redaction": &Redaction{}}[name]
}

// TestDocumentsAreReadStrictly: a document reads back, and with any bit flipped, byte
// lost or added, or field doubled it does not.
func TestDocumentsAreReadStrictly(t *testing.T) {
	for name, d := range everyDocument() {
		b, err := encode(d)
		must(t, err)
		if err := decode(b, name, empty(name)); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, b)
		}
		for i := range b {
			for bit := range 8 {
				bad := []byte(string(b))
				bad[i] ^= 1 << bit
				if decode(bad, name, empty(name)) == nil {
					t.Fatalf("%s reads with bit %d of byte %d flipped:\n%s", name, bit, i, bad)
				}
			}
			if decode(append([]byte(string(b[:i])), b[i+1:]...), name, empty(name)) == nil {
				t.Fatalf("%s reads without byte %d", name, i)
			}
		}
		for _, bad := range []string{string(b) + " ", string(b) + string(b), strings.Replace(string(b), "{", `{"format":1,`, 1), strings.Replace(string(b), "{", `{"x":1,`, 1), strings.Replace(string(b), "{", "{ ", 1)} {
			if decode([]byte(bad), name, empty(name)) == nil {
				t.Errorf("%s reads as %s", name, bad)
			}
		}
		later := strings.Replace(string(b), `"format":1`, `"format":2`, 1)
		var newer *NewerError
		if err := decode([]byte(later), name, empty(name)); errors.As(err, &newer) {
			t.Errorf("%s with a flipped format is told as a newer version's: %v", name, err)
		}
		if err := decode(rechecked(t, later), name, empty(name)); !errors.As(err, &newer) || newer.Format != 2 {
			t.Errorf("%s of a newer version: %v", name, err)
		}
	}
}

// rechecked gives a document the Check that its bytes ask for, files aside.
func rechecked(t *testing.T, doc string) []byte {
	t.Helper()
	at := strings.Index(doc, `"check":"`) + len(`"check":"`)
	bare := strings.TrimSuffix(doc[:at]+doc[at+checkDigits:], "\n")
	if head, _, listed := strings.Cut(bare, `,"files":[`); listed {
		bare = head + "}"
	}
	sum := sha256.Sum256([]byte(bare))
	return []byte(doc[:at] + hex.EncodeToString(sum[:])[:checkDigits] + doc[at+checkDigits:])
}

func FuzzDecode(f *testing.F) {
	for name, d := range everyDocument() {
		b, err := encode(d)
		must(f, err)
		f.Add(name, b)
	}
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		d := empty(name)
		if d == nil {
			return
		}
		if err := decode(b, name, d); err != nil {
			return
		}
		if again, err := encode(d); err != nil || string(again) != string(b) {
			t.Errorf("%s: %v\n%s\n%s", name, err, b, again)
		}
	})
}

func TestAManifestsHeadIsReadByItself(t *testing.T) {
	d := everyDocument()["checkpoint"]
	b, err := encode(d)
	must(t, err)
	var head Checkpoint
	must(t, decodeHead(b, "x", &head))
	if head != d.(*Manifest).Checkpoint {
		t.Errorf("%+v", head)
	}
	bad := strings.Replace(string(b), `"stamp_micros":5`, `"stamp_micros":4`, 1)
	if decodeHead([]byte(bad), "x", &head) == nil {
		t.Error("a flipped stamp is read")
	}
}
