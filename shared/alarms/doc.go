// Package alarms is what a person is called for: one table, of which the Prometheus
// rules, the CloudWatch alarms, the tables of docs/METRICS.md and the headings of
// docs/RUNBOOK.md are made or held to by a test; and its evaluation, for where no
// Prometheus runs.
//
// Evaluation is a pure function of what was seen and when: it reads no clock, makes no
// request and logs nothing. The caller scrapes, probes, and says at which moment of its
// own monotonic clock it did.
//
// Invariants:
//
//   - What cannot be seen is never taken for well: a firing alarm whose metric vanishes
//     goes on firing, and is marked as unseen.
//   - What cannot be seen is never taken for ill either: without a single reading an
//     alarm is in NoData, which does not call anybody. A node that is gone altogether is
//     the business of /health and of oc-controlplane-instance-silent.
//   - A condition holds for its duration only over readings that are at most MaxGap
//     apart.
package alarms
