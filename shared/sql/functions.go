package sql

import (
	"strings"

	gms "github.com/dolthub/go-mysql-server/sql"

	"originchain/shared/fault"
)

// refusedFunctions reach outside the statement: files, locks, sleep, the
// session, the server, or another statement's result.
func refusedFunction(name string) (why string, refused bool) {
	switch name {
	case "load_file":
		return "it reads files of the server", true
	case "sleep", "benchmark", "master_pos_wait", "source_pos_wait", "wait_for_executed_gtid_set":
		return "it makes the server wait", true
	case "get_lock", "release_lock", "release_all_locks", "is_free_lock", "is_used_lock":
		return "there are no named locks; use a transaction", true
	case "uncompress", "uncompressed_length", "compress", "random_bytes":
		return "compute it in the client", true
	case "regexp_instr", "regexp_replace", "regexp_substr":
		return "use REGEXP_LIKE, REPLACE and SUBSTRING", true
	case "last_insert_id", "last_insert_uuid", "row_count", "found_rows":
		return "it depends on the statement before; the answer of that statement has the number", true
	case "user", "current_user", "session_user", "system_user", "current_role", "connection_id", "database", "schema",
		"version", "icu_version", "ps_current_thread_id", "validate_password_strength", "gtid_subset", "gtid_subtract":
		return "there is no such session", true
	}
	return "", false
}

// pureFunctions always give the same result for the same arguments. A check
// constraint may use these alone: it must decide the same on every node and at
// every time.
func pureFunction(name string) bool {
	switch name {
	case "abs", "acos", "ascii", "asin", "atan", "atan2", "bin", "bit_count", "bit_length", "ceil", "ceiling", "char_length",
		"character_length", "coalesce", "concat", "concat_ws", "conv", "cos", "cot", "crc32", "date", "date_add", "date_format", "date_sub",
		"datediff", "day", "dayofmonth", "dayofweek", "dayofyear", "degrees", "elt", "exp", "field", "find_in_set", "floor",
		"from_base64", "greatest", "hex", "hour", "if", "ifnull", "inet_aton", "inet_ntoa", "inet6_aton", "inet6_ntoa", "instr",
		"is_ipv4", "is_ipv6", "is_uuid", "isnull", "json_contains", "json_depth", "json_extract", "json_length", "json_type",
		"json_unquote", "json_valid", "json_value", "lcase", "least", "left", "length", "ln", "locate", "log", "log10", "log2",
		"lower", "lpad", "ltrim", "md5", "mid", "minute", "mod", "month", "nullif", "octet_length", "ord", "pi", "pow", "power",
		"quarter", "radians", "regexp_like", "repeat", "replace", "reverse", "right", "round", "rpad", "rtrim", "second", "sha",
		"sha1", "sha2", "sign", "sin", "space", "sqrt", "strcmp", "substr", "substring", "substring_index", "tan", "to_base64",
		"to_days", "trim", "truncate", "ucase", "unhex", "upper", "weekday", "year":
		return true
	}
	return false
}

// Function implements gms.FunctionProvider. The planner asks here before it
// looks at its own functions, wherever in a statement the call stands.
func (p provider) Function(ctx *gms.Context, name string) (gms.Function, bool) {
	name = strings.ToLower(name)
	switch name {
	case bitsName:
		return bitsFunction(), true
	case termName:
		return termFunction(), true
	case casedName:
		return casedFunction(), true
	}
	if statementOf(ctx).pure && !pureFunction(name) {
		return refuse(name, "its result is not the same at every time and place; a check constraint uses deterministic functions alone"), true
	}
	if why, refused := refusedFunction(name); refused {
		return refuse(name, why), true
	}
	if f, ok := placedFunction(name); ok {
		return f, true
	}
	return boundedFunction(p.builtIn, name)
}

func refuse(name, why string) gms.Function {
	return gms.FunctionN{Name: name, Fn: func(...gms.Expression) (gms.Expression, error) {
		return nil, fault.New(fault.Unsupported, "function %s is not available here: %s", strings.ToUpper(name), why).With("function", name)
	}}
}
