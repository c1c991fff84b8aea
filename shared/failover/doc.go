// Package failover is how another node becomes the writer: what is observed, what is
// decided of it, and the steps that carry it out. Script, Lambdas and control plane
// differ only in the ports they give it.
//
// Invariants:
//
//   - Decide is a pure function: the same observation gives the same verdict, with
//     every reason, on a laptop and in a Lambda.
//   - No verdict promotes a node while the holder may still answer: the holder has
//     stopped for certain, or released its epoch, or the observer has itself seen the
//     record unchanged for lease.Expiry.
//   - What a person may override is named one by one, and nothing overrides the first
//     two of these.
package failover
