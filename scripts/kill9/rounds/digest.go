package rounds

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/shared/datadir"
	recovery "originchain/shared/recover"
	"originchain/shared/table"
	"originchain/shared/wal"
)

// scanDigest reads every key of a stopped server's state and compares the sum
// with the one the log recorded. It returns how many keys there are.
func scanDigest(dir string) (keys uint64, err error) {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	d, err := datadir.Open(datadir.Options{FS: vfs.Default, Path: dir})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	log, err := wal.Open(wal.Options{FS: vfs.Default, Dir: d.Log(), Instance: [16]byte(d.Identity().InstanceID), ReadOnly: true, Log: quiet})
	if err != nil {
		return 0, err
	}
	tail := log.Tail()
	if err := log.Close(); err != nil {
		return 0, err
	}
	store, err := table.Open(table.Options{FS: vfs.Default, Dir: d.State(), ReadOnly: true, Log: quiet})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	snap, err := store.Snapshot()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	scanned, err := recovery.VerifyFull(snap)
	if err != nil {
		return 0, err
	}
	if scanned.Applied.Pos != tail.Pos || scanned.Applied.Digest != tail.Digest {
		return 0, fmt.Errorf("after an orderly stop the state stands at %v with digest %s, the log ends at %v with %s",
			scanned.Applied.Pos, scanned.Applied.Digest, tail.Pos, tail.Digest)
	}
	return scanned.Keys, nil
}
