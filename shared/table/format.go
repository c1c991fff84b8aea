package table

import (
	"fmt"
	"strings"

	"originchain/shared/schema"
)

// maxTupleColumns is how many columns a key can have.
const maxTupleColumns = 16

// FormatKey prints a key of the log for people, such as
// "01J…/row/3 (17, Ulm)"; what it does not know it prints in hex.
func FormatKey(key []byte) string {
	p, ok := SplitKey(key)
	if !ok {
		return fmt.Sprintf("%x", key)
	}
	who := "system"
	if p.Tenant != System {
		who = p.Tenant.String()
	}
	at := who + "/" + p.Space.String()
	switch p.Space {
	case SpaceRows:
		return fmt.Sprintf("%s/%d %s", at, p.TableID, formatTuple(p.Rest))
	case SpaceIndexes:
		return fmt.Sprintf("%s/%d/%d %s", at, p.TableID, p.IndexID, formatTuple(p.Rest))
	case SpaceCounters:
		return fmt.Sprintf("%s/%d/%d", at, p.TableID, p.IndexID)
	case SpaceSchemas, SpaceIdem:
		return fmt.Sprintf("%s/%q", at, p.Rest)
	case SpaceIdemOrder:
		if stamp, k, ok := SplitIdemOrderKey(key); ok {
			return fmt.Sprintf("%s/%d/%q", at, stamp, k)
		}
	}
	return fmt.Sprintf("%s/%x", at, p.Rest)
}

// formatTuple prints the values of a tuple; the number of columns is not in
// the key, so it is tried.
func formatTuple(tuple []byte) string {
	for n := 1; n <= maxTupleColumns; n++ {
		vs, err := schema.DecodeKey(tuple, n, nil)
		if err != nil {
			continue
		}
		parts := make([]string, len(vs))
		for i, v := range vs {
			parts[i] = v.String()
		}
		return "(" + strings.Join(parts, ", ") + ")"
	}
	return fmt.Sprintf("%x", tuple)
}
