package registry

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/durable"
	"originchain/shared/fault"
)

// Names inside the directory. A document's file has its escaped key before suffix, so
// that no key is one of the others.
const (
	suffix        = ".doc"
	temporaryFile = "registry.tmp"
	lockFile      = "registry.lock"
)

const (
	// magic begins a file; format is the layout of what follows.
	magic  = "originchain-document"
	format = 1
	// maxHeadBytes is more than a file's first line has.
	maxHeadBytes = 512
)

// ErrFailed says that an fsync of this Folder has failed and that it does nothing more:
// a second fsync could succeed without the data. The process opens the directory again.
var ErrFailed = errors.New("the registry has failed; open it again")

// Folder is a Store in a directory that processes of one machine share: a document of a
// durable.Folder for each of its own, with a line before the body, which says version,
// checksum and key.
type Folder struct{ folder *durable.Folder }

var _ Store = (*Folder)(nil)

// OpenFolder returns the registry in a directory, which it makes if it is not there. It
// keeps nothing open.
func OpenFolder(fs vfs.FS, dir string) (*Folder, error) {
	folder, err := durable.OpenFolder(fs, durable.Layout{Dir: dir, Lock: lockFile, Temporary: temporaryFile, Failed: ErrFailed})
	if err != nil {
		return nil, err
	}
	return &Folder{folder}, nil
}

// Load implements Store. It fails with ErrFailed as well.
func (f *Folder) Load(ctx context.Context, key string) (d Document, err error) {
	if err := before(ctx, key); err != nil {
		return Document{}, err
	}
	err = f.folder.Alone(ctx, func() error {
		d, err = f.load(key)
		return err
	})
	return d, err
}

// Save implements Store. It fails with ErrFailed as well.
func (f *Folder) Save(ctx context.Context, key string, expect uint64, body []byte) (next Document, err error) {
	if err := before(ctx, key); err != nil {
		return Document{}, err
	}
	if err := CheckBody(key, body); err != nil {
		return Document{}, err
	}
	err = f.folder.Alone(ctx, func() error {
		current, err := f.load(key)
		if err != nil {
			return err
		}
		if next, err = saved(current, expect, body); err != nil {
			return err
		}
		return f.persist(next)
	})
	if err != nil {
		return Document{}, err
	}
	return next, nil
}

// Delete implements Store. It fails with ErrFailed as well.
func (f *Folder) Delete(ctx context.Context, key string, expect uint64) error {
	if err := before(ctx, key); err != nil {
		return err
	}
	return f.folder.Alone(ctx, func() error {
		current, err := f.load(key)
		if err != nil {
			return err
		}
		if current.Version == 0 || current.Version != expect {
			return &ConflictError{Expected: expect, Found: current}
		}
		err = f.folder.Remove(file(key))
		if failed := (*durable.Error)(nil); errors.As(err, &failed) {
			return &OutcomeUnknownError{key, failed.Err}
		}
		return err
	})
}

// List implements Store. It fails with ErrFailed as well.
func (f *Folder) List(ctx context.Context, prefix string) (out []Document, err error) {
	err = f.folder.Alone(ctx, func() error {
		keys, err := f.keys(prefix)
		if err != nil {
			return err
		}
		for _, key := range keys {
			d, err := f.load(key)
			if err != nil {
				return err
			}
			out = append(out, d)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// keys lists the keys that begin with prefix.
func (f *Folder) keys(prefix string) (keys []string, err error) {
	names, err := f.folder.Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		escaped, ok := strings.CutSuffix(name, suffix)
		if !ok {
			continue
		}
		key, err := url.QueryUnescape(escaped)
		if err != nil || escape(key) != escaped {
			return nil, fmt.Errorf("%s is the name of no document; take it away from there", f.folder.Path(name))
		}
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	if len(keys) > MaxListed {
		return nil, tooMany(prefix)
	}
	slices.Sort(keys)
	return keys, nil
}

func file(key string) string { return escape(key) + suffix }

// load reads a document and makes sure that it is durable.
func (f *Folder) load(key string) (Document, error) {
	b, ok, err := f.folder.Read(file(key), maxHeadBytes+MaxBodyBytes+1)
	if err != nil || !ok {
		return Document{Key: key}, err
	}
	d, err := decode(f.folder.Path(file(key)), key, b)
	if err != nil {
		return Document{}, err
	}
	if err := f.folder.Settle(file(key), b); err != nil {
		return Document{}, fmt.Errorf("make the document %s durable: %w", key, err)
	}
	return d, nil
}

// checksum covers which document it is, and not only what it says.
func checksum(key string, version uint64, body []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(fmt.Appendf(nil, "%s %d\n", key, version), table), table, body)
}

func encode(d Document) []byte {
	return append(fmt.Appendf(nil, "%s %d version %d crc32c %08x key %s\n", magic, format, d.Version, checksum(d.Key, d.Version, d.Body), escape(d.Key)), d.Body...)
}

// decode reads what encode wrote; name is for messages.
func decode(name, key string, b []byte) (Document, error) {
	head, body, _ := strings.Cut(string(b), "\n")
	var m, escaped string
	var layout int
	var sum uint32
	d := Document{Key: key, Body: []byte(body)}
	bad := func(got string) error {
		return &fault.Corruption{File: name, What: "document", Want: fmt.Sprintf("format %d of %s, whole", format, key), Got: got,
			Remedy: "put the file back as it was, or remove it: nodes are registered again by `oc-control up`"}
	}
	if n, err := fmt.Sscanf(head, "%s %d", &m, &layout); n != 2 || m != magic {
		return Document{}, bad(fmt.Sprintf("a first line of another kind (%v)", err))
	}
	if layout > format {
		return Document{}, fmt.Errorf("read %s: it was written by a newer program: format %d, this one knows up to %d", name, layout, format)
	}
	if _, err := fmt.Sscanf(head, "%s %d version %d crc32c %x key %s", &m, &layout, &d.Version, &sum, &escaped); err != nil {
		return Document{}, bad(err.Error())
	}
	if got := checksum(key, d.Version, d.Body); escaped != escape(key) || d.Version == 0 || sum != got {
		return Document{}, bad(fmt.Sprintf("version %d of %s, CRC32C %08x", d.Version, escaped, got))
	}
	return d, nil
}

// persist makes d the document.
func (f *Folder) persist(d Document) error {
	err := f.folder.Replace(file(d.Key), encode(d))
	if failed := (*durable.Error)(nil); errors.As(err, &failed) && failed.Unknown() {
		return &OutcomeUnknownError{d.Key, failed.Err}
	}
	return err
}
