// Package sql runs SQL over the tables of a tenant. It is built on
// go-mysql-server, which parses, plans and evaluates; what is read and written
// goes through this product's own tables, constraints and commits. No other
// package imports go-mysql-server.
//
// The planner is used for reading alone. INSERT, UPDATE, DELETE and REPLACE are
// executed here: the planner finds the rows and computes the new values, and
// this package turns them into row changes of a transaction. That keeps types
// strict, makes a statement read the state before its own first write, and
// leaves the planner without any way to change something.
//
// Isolation is snapshot isolation: a transaction reads one frozen state plus
// its own writes, and the first of two transactions that change the same row
// wins; the other one gets a conflict worth a retry. SELECT … FOR UPDATE makes
// the rows it reads part of that check.
package sql
