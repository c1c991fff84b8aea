package sql

import (
	"errors"
	"time"

	"github.com/sirupsen/logrus"
)

// Config sizes an Engine. A zero field takes its default.
type Config struct {
	// Store begins transactions and changes tables. Required.
	Store Store
	// Log is where panics of the planner are written. Required.
	Log logrus.FieldLogger
	// MaxStatementBytes bounds the text of one statement; default 1 MiB.
	MaxStatementBytes int
	// MaxResultBytes bounds the encoded rows of one answer; default 64 MiB.
	MaxResultBytes int
	// MaxBufferedBytes bounds the rows, groups and keys that one statement holds to
	// sort, group, join or compare, and the long text that its functions make;
	// default 256 MiB.
	MaxBufferedBytes int
	// MaxTransactions bounds the open transactions of one tenant; default 100.
	MaxTransactions int
	// TransactionIdle ends a transaction that got no statement for so long;
	// default 60 s.
	TransactionIdle time.Duration
	// StatementTimeout ends a statement that runs for so long; 0 is no limit.
	// Building an index is not held to it.
	StatementTimeout time.Duration
}

const (
	defaultMaxStatementBytes = 1 << 20
	defaultMaxResultBytes    = 64 << 20
	defaultMaxBufferedBytes  = 256 << 20
	defaultMaxTransactions   = 100
	defaultTransactionIdle   = 60 * time.Second
)

// complete checks the configuration and fills in the defaults.
func (c Config) complete() (Config, error) {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("sql: Config.Store is missing"))
	}
	if c.Log == nil {
		errs = append(errs, errors.New("sql: Config.Log is missing"))
	}
	if c.MaxStatementBytes < 0 || c.MaxResultBytes < 0 || c.MaxBufferedBytes < 0 || c.MaxTransactions < 0 || c.TransactionIdle < 0 || c.StatementTimeout < 0 {
		errs = append(errs, errors.New("sql: a limit in Config is negative"))
	}
	setDefault(&c.MaxStatementBytes, defaultMaxStatementBytes)
	setDefault(&c.MaxResultBytes, defaultMaxResultBytes)
	setDefault(&c.MaxBufferedBytes, defaultMaxBufferedBytes)
	setDefault(&c.MaxTransactions, defaultMaxTransactions)
	setDefault(&c.TransactionIdle, defaultTransactionIdle)
	return c, errors.Join(errs...)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
