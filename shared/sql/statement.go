package sql

import (
	"errors"
	"strings"

	ast "github.com/dolthub/vitess/go/vt/sqlparser"

	"originchain/shared/fault"
)

// maxTables bounds the tables of one statement: the number of orders in which
// they can be joined grows with its factorial.
const maxTables = 24

// parse makes the tree of a lexed statement. It never panics.
func parse(text string) (stmt ast.Statement, err error) {
	defer func() {
		if r := recover(); r != nil {
			stmt, err = nil, fault.New(fault.ValidationFailed, "the statement cannot be parsed")
		}
	}()
	stmt, err = ast.Parse(text)
	if errors.Is(err, ast.ErrEmpty) {
		return nil, fault.New(fault.ValidationFailed, "the statement is empty")
	}
	if err != nil {
		return nil, fault.New(fault.ValidationFailed, "%s", err.Error())
	}
	// A column without an alias is named by its text, to which the parser counts
	// the comma before it where white space stands before that.
	return stmt, ast.Walk(func(n ast.SQLNode) (bool, error) {
		if e, ok := n.(*ast.AliasedExpr); ok {
			e.InputExpression = strings.TrimLeft(e.InputExpression, ", \t\r\n")
		}
		return true, nil
	}, stmt)
}

// unsupported names a statement that is not available, and what to do instead.
func unsupported(stmt ast.Statement) error {
	what, hint := "this statement", "API documentation lists the statements"
	switch s := stmt.(type) {
	case *ast.AlterTable:
		what, hint = "ALTER", "register a manifest with a higher version, or make a new table and copy the rows"
	case *ast.DDL:
		what, hint = unsupportedDDL(s)
	case *ast.DBDDL:
		what, hint = "CREATE and DROP DATABASE", "a namespace is there as soon as it has a table"
	case *ast.Set:
		what, hint = "SET", "there are no session settings; send values as params"
	case *ast.Use:
		what, hint = "USE", "write tables as namespace.table"
	case *ast.Load:
		what, hint = "LOAD DATA", "send rows to POST …/rows/:schema/_batch"
	case *ast.Show:
		what, hint = "this form of SHOW", "SHOW TABLES, SHOW DATABASES and SHOW CREATE TABLE are"
	case *ast.LockTables, *ast.UnlockTables:
		what, hint = "LOCK TABLES", "use a transaction with SELECT … FOR UPDATE"
	case *ast.Savepoint, *ast.RollbackSavepoint, *ast.ReleaseSavepoint:
		what, hint = "SAVEPOINT", "a statement that fails leaves its transaction as it was; use one transaction per unit of work"
	case *ast.Kill:
		what, hint = "KILL", "use POST /v1/queries/:id/cancel"
	case *ast.Call, *ast.BeginEndBlock, *ast.Declare, *ast.IfStatement, *ast.CaseStatement, *ast.Loop, *ast.Repeat, *ast.While, *ast.Signal, *ast.Resignal:
		what, hint = "stored procedures", "send the statements one by one in a transaction"
	case *ast.CreateUser, *ast.RenameUser, *ast.DropUser, *ast.CreateRole, *ast.DropRole, *ast.GrantPrivilege, *ast.GrantRole, *ast.GrantProxy,
		*ast.RevokePrivilege, *ast.RevokeAllPrivileges, *ast.RevokeRole, *ast.RevokeProxy, *ast.ShowGrants, *ast.ShowPrivileges:
		what, hint = "users and grants", "access is by token; see /v1/admin/tenants/:t/tokens"
	case *ast.Prepare, *ast.Execute, *ast.Deallocate:
		what, hint = "PREPARE and EXECUTE", "send params with the statement"
	case *ast.Flush, *ast.Analyze, *ast.OtherAdmin, *ast.OtherRead, *ast.PurgeBinaryLogs, *ast.ChangeReplicationSource, *ast.ChangeReplicationFilter,
		*ast.StartReplica, *ast.StopReplica, *ast.ResetReplica:
		what, hint = "server administration by SQL", "use the admin API"
	}
	return fault.New(fault.Unsupported, "%s is not available; %s", what, hint)
}

func unsupportedDDL(s *ast.DDL) (what, hint string) {
	switch {
	case s.ViewSpec != nil || len(s.FromViews) > 0:
		return "views", "use a WITH clause in the query"
	case s.TriggerSpec != nil:
		return "triggers", "make the change in the same transaction"
	case s.ProcedureSpec != nil:
		return "stored procedures", "send the statements one by one in a transaction"
	case s.EventSpec != nil:
		return "events", "run the statement from a scheduler"
	case s.Action == ast.TruncateStr:
		return "TRUNCATE", "use DELETE FROM, or DROP TABLE and CREATE TABLE"
	case s.Action == ast.RenameStr:
		return "RENAME TABLE", "make a new table and copy the rows"
	}
	return "ALTER", "register a manifest with a higher version, or make a new table and copy the rows"
}

// check walks a statement that reads, and refuses what this product does not
// have. Nothing is ignored in silence.
func check(node ast.SQLNode) error {
	c := checker{ctes: map[string]bool{}}
	// Names first: a table may stand before the WITH that defines it.
	var names ast.Visit
	names = func(n ast.SQLNode) (bool, error) {
		switch n := n.(type) {
		case *ast.CommonTableExpr:
			c.ctes[strings.ToLower(n.As.String())] = true
		case *ast.SetOp:
			// The parser's walk passes it by.
			if n.With != nil {
				return true, ast.Walk(names, n.With)
			}
		}
		return true, nil
	}
	_ = ast.Walk(names, node)
	return ast.Walk(c.visit, node)
}

type checker struct {
	ctes   map[string]bool
	tables int
}

func (c *checker) visit(n ast.SQLNode) (bool, error) {
	switch n := n.(type) {
	case *ast.Select:
		if err := checkSelect(n); err != nil {
			return false, err
		}
		// The parser's walk passes these by.
		for _, w := range n.Window {
			if err := ast.Walk(c.visit, w); err != nil {
				return false, err
			}
		}
		return true, nil
	case *ast.SetOp:
		if n.Into != nil {
			return false, errInto()
		}
		// The parser's walk passes these by.
		if err := ast.Walk(c.visit, n.OrderBy, n.Limit); err != nil {
			return false, err
		}
		if err := inSelect(misplacedWindow, n.OrderBy, n.Limit); err != nil {
			return false, err
		}
		if n.With != nil {
			return true, ast.Walk(c.visit, n.With)
		}
	case *ast.AliasedTableExpr:
		return true, c.tableExpr(n)
	case ast.TableFuncExpr, *ast.TableFuncExpr:
		return false, fault.New(fault.Unsupported, "table functions are not available")
	case *ast.MatchExpr:
		return false, fault.New(fault.Unsupported, "MATCH … AGAINST is not available; use LIKE")
	case *ast.FuncExpr:
		if n.Distinct && n.Over != nil {
			return false, fault.New(fault.Unsupported, "DISTINCT is not available in window function %s; take the distinct rows in a subquery first", strings.ToUpper(n.Name.String()))
		}
		if err := checkStar(n); err != nil {
			return false, err
		}
		if !n.Qualifier.IsEmpty() {
			return false, fault.New(fault.Unsupported, "function %s.%s does not exist; there are no stored functions", n.Qualifier.String(), n.Name.String())
		}
		if why, refused := refusedFunction(n.Name.Lowered()); refused {
			return false, fault.New(fault.Unsupported, "function %s is not available: %s", strings.ToUpper(n.Name.String()), why).With("function", n.Name.Lowered())
		}
	case *ast.Default:
		return false, fault.New(fault.Unsupported, "DEFAULT stands only by itself, as a value of INSERT or UPDATE")
	case *ast.ValuesFuncExpr:
		return false, fault.New(fault.Unsupported, "VALUES(column) stands only in ON DUPLICATE KEY UPDATE")
	}
	return true, nil
}

func errInto() error {
	return fault.New(fault.Unsupported, "SELECT … INTO is not available; use INSERT INTO … SELECT, or read the rows from the answer")
}

func checkSelect(s *ast.Select) error {
	if s.Into != nil {
		return errInto()
	}
	if s.QueryOpts.SQLCalcFoundRows {
		return fault.New(fault.Unsupported, "SQL_CALC_FOUND_ROWS is not available; send a second SELECT COUNT(*)")
	}
	return checkWindows(s)
}

func (c *checker) tableExpr(e *ast.AliasedTableExpr) error {
	switch {
	case e.AsOf != nil:
		return fault.New(fault.Unsupported, "AS OF is not available; restore a copy to the moment with oc-pitr")
	case len(e.Partitions) > 0:
		return fault.New(fault.Unsupported, "tables have no partitions; use WHERE")
	case e.Hints != nil:
		return fault.New(fault.Unsupported, "index hints are not available; EXPLAIN shows the index that is used")
	}
	name, ok := e.Expr.(ast.TableName)
	if !ok {
		return nil
	}
	c.tables++
	if c.tables > maxTables {
		return fault.New(fault.Unsupported, "the statement reads more than %d tables; split it", maxTables)
	}
	if name.DbQualifier.IsEmpty() {
		if c.ctes[strings.ToLower(name.Name.String())] {
			return nil
		}
		return errUnqualified(name.Name.String())
	}
	return checkNamespace(name)
}

func errUnqualified(name string) error {
	return fault.New(fault.UnknownTable, "table %q has no namespace; write namespace.%s", name, name)
}

// checkNamespace refuses the databases that belong to a MySQL server.
func checkNamespace(name ast.TableName) error {
	switch strings.ToLower(name.DbQualifier.String()) {
	case "information_schema", "mysql", "performance_schema", "sys":
		return fault.New(fault.Unsupported, "system database %s is not available; GET …/schemas lists the tables, GET …/schemas/:id shows one", name.DbQualifier.String())
	}
	if !name.SchemaQualifier.IsEmpty() {
		return fault.New(fault.UnknownTable, "table %s has too many parts; write namespace.table", ast.String(name))
	}
	return nil
}

// checkStar refuses aggregates of * that the planner takes and cannot compute.
func checkStar(f *ast.FuncExpr) error {
	if !f.IsAggregate() || f.Name.EqualString("count") && !f.Distinct {
		return nil
	}
	for _, e := range f.Exprs {
		if _, star := e.(*ast.StarExpr); star {
			return fault.New(fault.ValidationFailed, "%s takes an expression here, and not *", strings.ToUpper(f.Name.String()))
		}
	}
	return nil
}
