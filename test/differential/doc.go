// Package differential runs seeded random schemas, rows and SQL statements
// against OriginChain and against SQLite over the same data, and compares every
// answer, every refusal and every count of changed rows. After each round the
// log is folded into a model of its own, which recomputes counters and indexes.
//
// What differs between the two dialects by design is not generated:
//
//   - u64 above 2^63-1: SQLite has no unsigned integers.
//   - AVG over integers, and division: MySQL's are exact decimals of a few more
//     digits, SQLite's are floats or cut.
//   - comparison of values of different types: here it is an error or follows
//     MySQL's conversions, in SQLite it follows storage classes.
//   - UPDATE that moves unique values between rows of one statement: what collides
//     on the way depends on the order of rows, which SQL leaves open.
//   - LIMIT without an ORDER BY that is total: which rows it takes is open.
//   - which of several violated constraints is named: only that one is.
//   - COUNT(DISTINCT) of bytes, which the planner refuses unless they are text, and
//     COUNT(*) OVER of no rows, on which it fails: both are errors, not answers.
//   - text that differs only by case: LIKE ignores case in SQLite unless told, and
//     is told here; upper case is generated for values, not for patterns.
package differential
