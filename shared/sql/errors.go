package sql

import (
	"context"
	"errors"

	gms "github.com/dolthub/go-mysql-server/sql"
	goerrors "gopkg.in/src-d/go-errors.v1"

	"originchain/shared/fault"
)

// kinds maps the planner's error kinds to faults. The first that matches counts.
func kinds() []struct {
	kind *goerrors.Kind
	code fault.Code
	hint string
} {
	return []struct {
		kind *goerrors.Kind
		code fault.Code
		hint string
	}{
		{gms.ErrTableNotFound, fault.UnknownTable, "; write tables as namespace.table"},
		{gms.ErrDatabaseNotFound, fault.UnknownTable, "; write tables as namespace.table"},
		{gms.ErrNoDatabaseSelected, fault.UnknownTable, "; write tables as namespace.table"},
		{gms.ErrTableColumnNotFound, fault.UnknownColumn, ""},
		{gms.ErrColumnNotFound, fault.UnknownColumn, ""},
		{gms.ErrUnknownColumn, fault.UnknownColumn, ""},
		{gms.ErrFunctionNotFound, fault.Unsupported, ""},
		{gms.ErrUnsupportedFeature, fault.Unsupported, ""},
		{gms.ErrUnsupportedSyntax, fault.Unsupported, ""},
	}
}

// planError turns an error of the planner or of the evaluation of an expression
// into a fault. What failed below the planner (reading the state) is not the
// request's fault and passes as it is.
func planError(st *statement, err error) error {
	if err == nil {
		return nil
	}
	if st.failed != nil {
		return st.failed
	}
	var f *fault.Error
	if errors.As(err, &f) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	for _, k := range kinds() {
		if k.kind.Is(err) {
			return fault.New(k.code, "%s%s", err.Error(), k.hint)
		}
	}
	return fault.New(fault.ValidationFailed, "%s", err.Error())
}
