package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"originchain/shared/object"
)

// each calls visit for all objects below a prefix and above after, in the order of
// their names, and lists no further when it returns an error.
func (a *Archive) each(ctx context.Context, prefix, after string, visit func(object.Info) error) error {
	return object.Each(ctx, a.store, prefix, after, visit)
}

// keys lists the keys of one type below a prefix; names that are none go to others,
// which may be nil.
func keys[K Key](ctx context.Context, a *Archive, prefix, after string, others *[]string) ([]Sized[K], error) {
	var out []Sized[K]
	err := a.each(ctx, prefix, after, func(info object.Info) error {
		k, err := ParseKey(info.Key)
		if typed, ok := k.(K); err == nil && ok {
			out = append(out, Sized[K]{Key: typed, Size: info.Size})
		} else if others != nil {
			*others = append(*others, info.Key)
		}
		return nil
	})
	return out, err
}

// Sized is an object and its size in bytes.
type Sized[K Key] struct {
	Key  K
	Size int64
}

// headBytes is how much of a manifest is read to know what it is of.
const headBytes = 4 << 10

// checkpointHead reads a manifest without its list of files.
func (a *Archive) checkpointHead(ctx context.Context, k Sized[CheckpointKey]) (c Checkpoint, err error) {
	r, err := a.open(ctx, k.Key, 0, min(k.Size, headBytes))
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	b, err := io.ReadAll(r)
	if err != nil {
		return c, a.unread(k.Key, err)
	}
	if err := decodeHead(b, k.Key.String(), &c); err != nil {
		return c, a.decoded(k.Key, err)
	}
	if c.Key() != k.Key {
		return c, a.damaged(k.Key, fmt.Errorf("it is of %s", c.Key()))
	}
	return c, nil
}

// decodeHead reads the fields of a manifest up to its files, which Check covers by
// themselves.
func decodeHead(b []byte, what string, into *Checkpoint) error {
	for end := range b {
		if end+len(filesList) > len(b) || string(b[end:end+len(filesList)]) != filesList {
			continue
		}
		head := append(append([]byte{}, b[:end]...), "}\n"...)
		var version struct {
			Format int `json:"format"`
		}
		if err := json.Unmarshal(head, &version); err != nil {
			return err
		}
		if version.Format > format {
			return newer(head, what, version.Format)
		}
		return decode(head, what, into)
	}
	return errors.New("no list of files follows its head")
}
