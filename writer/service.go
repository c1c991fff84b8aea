package writer

import (
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/shared/engine"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/sql"
	"originchain/shared/table"
	"originchain/shared/tenant"
)

// service answers requests over an open engine. Its methods are the handlers.
type service struct {
	engine *engine.Engine
	node   *Shell
	sql    *sql.Engine
	// compiler makes check constraints executable.
	compiler *sql.Compiler
	auth     *tenant.Authenticator
	records  *tenant.DecodedRecords
	cache    *recordCache // below records
	metrics  *metrics
	log      *logrus.Logger

	checks     checkCache
	queries    queries
	flights    flights
	buffered   buffered
	begun      begun
	quotas     quotas
	batchBytes budget
	cores      chan struct{}
	minLSNWait time.Duration
}

func newService(n *Shell, e *engine.Engine) (*service, error) {
	s := &service{
		engine: e, node: n, metrics: n.metrics, log: n.deps.Log, minLSNWait: n.cfg.MinLSNWait,
		compiler: sql.NewCompiler(), batchBytes: budget{limit: batchMemoryBytes}, cores: newCores(),
	}
	s.cache = &recordCache{view: e.View()}
	s.records = tenant.NewDecodedRecords(s.cache)
	s.auth = n.tokens.Over(s.records)
	var err error
	s.sql, err = sql.New(sql.Config{Store: store{e}, Log: n.deps.Log, TransactionIdle: n.cfg.TransactionIdle, StatementTimeout: n.cfg.StatementTimeout})
	return s, err
}

// checkCache keeps the compiled check constraints of tables. A table's identity
// is its id and the frame that last changed it, so a changed table is another one.
type checkCache struct {
	mu       sync.RWMutex
	compiled map[tableIdentity][]rows.CheckFunc
}

type tableIdentity struct {
	tenant  ulid.ULID
	table   uint32
	changed lsn.LSN
}

// maxCompiled bounds the cache; a table that is dropped from it is compiled again.
const maxCompiled = 4096

// checksOf returns the compiled checks of a table; nil for one without.
func (s *service) checksOf(t *table.Table) ([]rows.CheckFunc, error) {
	if len(t.Checks) == 0 {
		return nil, nil
	}
	id := tableIdentity{t.Tenant, t.TableID, t.ChangedLSN}
	s.checks.mu.RLock()
	checks, ok := s.checks.compiled[id]
	s.checks.mu.RUnlock()
	if ok {
		return checks, nil
	}
	checks, err := s.compiler.CompileChecks(t.Table)
	if err != nil {
		return nil, err
	}
	s.checks.mu.Lock()
	defer s.checks.mu.Unlock()
	if s.checks.compiled == nil {
		s.checks.compiled = map[tableIdentity][]rows.CheckFunc{}
	}
	if len(s.checks.compiled) >= maxCompiled {
		for victim := range s.checks.compiled {
			delete(s.checks.compiled, victim)
			break
		}
	}
	s.checks.compiled[id] = checks
	return checks, nil
}
