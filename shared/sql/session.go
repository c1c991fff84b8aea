package sql

import (
	"context"
	"errors"
	"strings"
	"sync"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/variables"

	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/table"
)

// session is what the planner keeps of its caller. It is used for one statement
// at a time and then again: a fresh one copies some five hundred system
// variables. No statement can set a variable, so nothing of one tenant's
// statement is left in it for the next.
type session struct {
	*gms.BaseSession
	st *statement
}

// GetSessionVariable implements gms.Session. GROUP_CONCAT is bounded like every
// other text that is computed, and not cut in silence after 1024 bytes.
func (s *session) GetSessionVariable(ctx *gms.Context, name string) (any, error) {
	if strings.EqualFold(name, "group_concat_max_len") {
		return uint64(maxComputedBytes), nil
	}
	return s.BaseSession.GetSessionVariable(ctx, name)
}

// sessions lends sessions to statements.
type sessions struct {
	pool sync.Pool
}

func newSessions() *sessions {
	if gms.SystemVariables == nil {
		variables.InitSystemVariables()
	}
	return &sessions{pool: sync.Pool{New: func() any {
		return &session{BaseSession: gms.NewBaseSessionWithClientServer("", gms.Client{}, 1)}
	}}}
}

// begin makes the planner's context of one statement.
func (s *sessions) begin(ctx context.Context, st *statement) *gms.Context {
	sess := s.pool.Get().(*session)
	sess.st = st
	return gms.NewContext(ctx, gms.WithSession(sess), gms.WithMemoryManager(gms.NewMemoryManager(nil)))
}

// end gives the session back. The context must not be used after.
func (s *sessions) end(ctx *gms.Context) {
	sess := ctx.Session.(*session)
	sess.st = nil
	sess.ClearWarnings()
	sess.SetTransaction(nil)
	s.pool.Put(sess)
}

// statement is what one statement reads.
type statement struct {
	tx      Tx
	catalog *table.Catalog
	// lock makes the scan touch every row it reads (FOR UPDATE).
	lock    bool
	touched int
	// ordered says that the planner may rely on the order of an index.
	ordered bool
	// pure allows deterministic functions alone.
	pure bool
	// failed is the first error from below the planner: a read that failed.
	failed error
	// scratch is a table that exists for one expression only: a row whose
	// columns the expression names.
	scratch *scratchTable
	// open are the scans that are not closed yet. The planner does not close
	// every iterator when a query ends early.
	open map[*scan]struct{}
	// buffered counts what the statement holds in memory, up to budget bytes.
	buffered, budget int
	// profile collects rows and time per node (EXPLAIN ANALYZE).
	profile *profile
	// weighed are the nodes whose rows are held by another.
	weighed map[gms.Node]held
	// building is the node that the executor is about to build by itself.
	building gms.Node
}

// fail keeps the first error of a read, so that it is not taken for the
// request's fault after it has passed through the planner.
func (st *statement) fail(err error) error {
	if err != nil && st.failed == nil && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		st.failed = err
	}
	return err
}

// hold counts bytes that the statement keeps in memory.
func (st *statement) hold(bytes int) error {
	if st.buffered += bytes; st.buffered > st.budget && st.budget > 0 {
		return fault.New(fault.BodyTooLarge, "the statement holds more than %d bytes in memory to sort, group, join or compute; narrow it by WHERE, select fewer columns, or sort by an index with LIMIT", st.budget)
	}
	return nil
}

// release gives back what hold counted, when it is held no longer.
func (st *statement) release(bytes int) { st.buffered -= bytes }

// maxLockedRows bounds what one SELECT … FOR UPDATE may lock.
const maxLockedRows = 100_000

// touch makes the transaction depend on a row that was read.
func (st *statement) touch(key []byte, version lsn.LSN) error {
	if st.touched++; st.touched > maxLockedRows {
		return fault.New(fault.BodyTooLarge, "SELECT … FOR UPDATE read more than %d rows; add a WHERE on an index, or a LIMIT", maxLockedRows)
	}
	st.tx.Touch(key, version)
	return nil
}

// close ends the scans that the planner left open.
func (st *statement) close() error {
	var err error
	for s := range st.open {
		err = errors.Join(err, s.end())
	}
	clear(st.open)
	return err
}

// statementOf finds the statement behind a planner's context.
func statementOf(ctx *gms.Context) *statement { return ctx.Session.(*session).st }
