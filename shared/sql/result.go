package sql

import (
	"strconv"

	"originchain/shared/api"
	"originchain/shared/lsn"
)

// Result is the answer to one statement. Which fields matter follows from Kind,
// as API.md lists them.
type Result struct {
	Kind string // one of the api.Kind constants
	// Pos is where the state stood that was read, or where the commit stands.
	Pos lsn.Pos

	// Columns are the names in SELECT order; RowCount is how many rows there are.
	Columns  []string
	RowCount int
	rows     []byte // JSON objects, joined by commas

	Plan  string
	Stats []byte // a JSON object; nil without ANALYZE

	// Schema is the table that was written or changed, "namespace.table".
	Schema                     string
	Inserted, Updated, Skipped uint64
	RowsAffected               uint64
	// Buffered is the number of rows that wait for the commit of their transaction.
	Buffered *uint64
	// PK is the primary key of the one row that was deleted by it.
	PK *string

	Op, TxID, Status string
	OpsCommitted     uint64

	Created, Dropped *bool
	Index            string
	RowsIndexed      *uint64
}

// buffered marks the answer as one of a statement that has not been committed.
func (r *Result) buffered() {
	switch r.Kind {
	case api.KindUpdate, api.KindDelete:
		n := r.RowsAffected
		r.Buffered = &n
	}
}

// Rows is the number of rows the statement returned or changed.
func (r *Result) Rows() uint64 {
	return uint64(r.RowCount) + r.Inserted + r.Updated + r.RowsAffected
}

// AppendJSON appends the answer as API.md lays it out.
func (r *Result) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"kind":`...)
	dst = appendString(dst, r.Kind)
	switch r.Kind {
	case api.KindSelect:
		dst = append(dst, `,"columns":[`...)
		for i, c := range r.Columns {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendString(dst, c)
		}
		dst = append(dst, `],"rows":[`...)
		dst = append(dst, r.rows...)
		dst = append(dst, ']')
	case api.KindExplain:
		dst = appendStringField(dst, "plan", r.Plan)
		if r.Stats != nil {
			dst = append(dst, `,"stats":`...)
			dst = append(dst, r.Stats...)
		}
	case api.KindTx:
		dst = appendStringField(dst, "op", r.Op)
		dst = appendUintField(dst, "ops_committed", r.OpsCommitted)
		dst = appendStringField(dst, "tx_id", r.TxID)
		dst = appendStringField(dst, "session_id", r.TxID)
		dst = appendStringField(dst, "status", r.Status)
	default:
		dst = appendStringField(dst, "schema", r.Schema)
		dst = r.appendChange(dst)
	}
	return append(dst, '}')
}

func (r *Result) appendChange(dst []byte) []byte {
	switch r.Kind {
	case api.KindInsert:
		dst = appendUintField(dst, "inserted", r.Inserted)
		if r.Updated > 0 {
			dst = appendUintField(dst, "updated", r.Updated)
		}
		if r.Skipped > 0 {
			dst = appendUintField(dst, "skipped", r.Skipped)
		}
		return append(dst, `,"rows":[]`...)
	case api.KindDelete:
		dst = append(dst, `,"pk":`...)
		if r.PK == nil {
			dst = append(dst, "null"...)
		} else {
			dst = appendString(dst, *r.PK)
		}
		dst = appendUintField(dst, "rows_affected", r.RowsAffected)
	case api.KindUpdate:
		dst = appendUintField(dst, "rows_affected", r.RowsAffected)
	}
	if r.Index != "" {
		dst = appendStringField(dst, "index", r.Index)
	}
	if r.Created != nil {
		dst = append(dst, `,"created":`...)
		dst = strconv.AppendBool(dst, *r.Created)
	}
	if r.Dropped != nil {
		dst = append(dst, `,"dropped":`...)
		dst = strconv.AppendBool(dst, *r.Dropped)
	}
	if r.RowsIndexed != nil {
		dst = appendUintField(dst, "rows_indexed", *r.RowsIndexed)
	}
	if r.Buffered != nil {
		dst = appendUintField(dst, "rows_buffered", *r.Buffered)
	}
	return dst
}

func appendStringField(dst []byte, name, value string) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return appendString(dst, value)
}

func appendUintField(dst []byte, name string, value uint64) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return strconv.AppendUint(dst, value, 10)
}
