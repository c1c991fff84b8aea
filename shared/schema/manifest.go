package schema

// Bounds of a manifest.
const (
	MaxManifestBytes  = 1 << 20
	MaxColumns        = 1000 // columns and extractions together
	MaxIndexes        = 64   // declared ones and those that foreign keys imply
	MaxKeyColumns     = 16   // of a primary key or of an index
	MaxIdentifierSize = 63
	MaxVectorDim      = 16384
	MaxExprBytes      = 4096
	MaxPathKeys       = 30 // of an extraction's path: what the depth limit of JSON leaves
	maxEntries        = 1000
	maxListedFaults   = 50
)

// Manifest is a table's declaration as its author wrote it, in the order of the
// document. A Manifest that was not parsed is checked by Compile.
type Manifest struct {
	Namespace        string
	Table            string
	PrimaryKey       []string
	Version          uint32
	Columns          []ColumnDef
	Indexes          []IndexDef
	Relations        []Relation
	Extractions      []Extraction
	ForeignKeys      []ForeignKeyDef
	CheckConstraints []Check
	Vectors          []Vector
	FTS              []FTS
	Migration        *Migration // nil without a [migration] section
}

// ColumnDef declares a column. Default is NULL when there is none.
type ColumnDef struct {
	Name     string
	Type     Type
	Required bool
	Default  Value
}

// IndexDef declares a secondary index over columns or extractions.
type IndexDef struct {
	Name    string
	Columns []string
	Unique  bool
}

// Relation declares graph edges from a row's primary key to the value in
// FromCol. It is not a constraint.
type Relation struct {
	Name          string
	FromCol       string
	Bidirectional bool
	Target        RelationTarget
}

// RelationTarget is the table, and its primary key column, that a relation's
// edges end in. The table may not exist yet.
type RelationTarget struct {
	Namespace string
	Table     string
	PK        string
}

// Extraction declares a typed column that is read from JSON at a dotted path.
type Extraction struct {
	Name string
	Path string
	Type Type
}

// ForeignKeyDef declares that the values of FromCol exist in TargetCol of
// TargetSchema ("namespace.table").
type ForeignKeyDef struct {
	FromCol      string
	TargetSchema string
	TargetCol    string
}

// Check is a named condition, an SQL expression over the row's columns, which
// shared/sql compiles.
type Check struct {
	Name string
	Expr string
}

// Vector declares an embedding beside the row. Metric is cosine, dot, l2 or
// manhattan.
type Vector struct {
	Name   string
	Dim    int
	Metric string
}

// FTS declares a full-text field. Analyzer is standard, simple, keyword or
// english. A field that is no column is fed through the full-text endpoints.
type FTS struct {
	Field    string
	Analyzer string
}

// Migration says how rows of the previous version become rows of this one.
type Migration struct {
	Renames     []Rename // by From
	Drops       []string
	Sets        []MigrationSet
	AutoCutover bool
}

// Rename carries a column's values to another name.
type Rename struct{ From, To string }

// MigrationSet computes a column from the old row by an SQL expression.
type MigrationSet struct {
	Column string
	Expr   string
}

// Defaults of a manifest's optional keys.
const (
	defaultMetric   = "cosine"
	defaultAnalyzer = "standard"
)

func knownMetric(s string) bool {
	return s == "cosine" || s == "dot" || s == "l2" || s == "manhattan"
}

func knownAnalyzer(s string) bool {
	return s == "standard" || s == "simple" || s == "keyword" || s == "english"
}

// ID is the table's name, "namespace.table".
func (m *Manifest) ID() string { return m.Namespace + "." + m.Table }

// validIdentifier matches [a-zA-Z_][a-zA-Z0-9_]{0,62}.
func validIdentifier(s string) bool {
	if s == "" || len(s) > MaxIdentifierSize {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return true
}
