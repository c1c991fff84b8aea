package table

import (
	"encoding/json"
	"fmt"

	"originchain/shared/lsn"
	"originchain/shared/schema"
)

// recordVersion is the format of a table record. A higher one is refused: an
// older server must not guess at a newer catalog.
const recordVersion = 1

// Record is what the catalog stores of a table: its manifest as registered,
// and the ids that its keys carry.
type Record struct {
	Version int    `json:"v"`
	TableID uint32 `json:"table_id"`
	// ChangedLSN is the frame that wrote this record: a prepared write that was
	// made under another one is refused.
	ChangedLSN  lsn.LSN       `json:"changed_lsn"`
	NextIndexID uint32        `json:"next_index_id"`
	Indexes     []IndexRecord `json:"indexes"`
	Manifest    string        `json:"manifest"`
}

// IndexRecord is one index of a table, declared by the manifest, implied by a
// foreign key, or made by CREATE INDEX (Extra).
type IndexRecord struct {
	Name    string   `json:"name"`
	ID      uint32   `json:"id"`
	Columns []string `json:"columns"`
	Unique  bool     `json:"unique,omitempty"`
	Extra   bool     `json:"extra,omitempty"`
	// Building marks an index that writers maintain and readers do not use yet.
	Building bool `json:"building,omitempty"`
}

// Encode returns the stored bytes. The field order of the struct is the order
// on disk, so equal records have equal bytes.
func (r *Record) Encode() []byte {
	r.Version = recordVersion
	b, err := json.Marshal(r)
	if err != nil {
		// A struct of strings and numbers cannot fail to encode.
		panic(fmt.Sprintf("table record: %v", err))
	}
	return b
}

// DecodeRecord is the inverse of Encode.
func DecodeRecord(b []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("table record: %w", err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("table record: version %d is newer than this server's %d; start the server that wrote it", r.Version, recordVersion)
	}
	return &r, nil
}

// NewRecord lays out a fresh table: ids for every index the manifest declares
// or implies, all usable at once because the table is empty.
func NewRecord(t *schema.Table, source []byte, tableID uint32, at lsn.LSN) *Record {
	r := &Record{TableID: tableID, ChangedLSN: at, NextIndexID: 1, Manifest: string(source)}
	for _, ix := range t.Indexes {
		r.AddIndex(IndexRecord{Name: ix.Name, Columns: columnNames(t, ix.Columns), Unique: ix.Unique})
	}
	return r
}

// AddIndex appends an index under the next free id and returns that id. Ids
// are not used twice in a table, so entries of a dropped index can never be
// taken for another's.
func (r *Record) AddIndex(ix IndexRecord) uint32 {
	ix.ID = r.NextIndexID
	r.NextIndexID++
	r.Indexes = append(r.Indexes, ix)
	return ix.ID
}

func columnNames(t *schema.Table, cols []int) []string {
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = t.Columns[c].Name
	}
	return names
}
