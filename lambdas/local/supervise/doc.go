// Package supervise runs the nodes of one machine as processes, each by its systemd
// unit file, and is to them what systemd and instance control are on EC2.
//
//	<dir>/units/<machine>/oc-http.service   what runs; read at each start, rewritten by failover
//	<dir>/logs/<machine>.log                what it wrote, bounded
//	<dir>/run/<boot>/<machine>.json         what runs now, to find it after a crash of the supervisor
//	<dir>/supervisor.lock                   one supervisor per directory
//
// What it promises:
//
//   - A death is known at once: each process is a child that is waited for. Nothing polls.
//   - A process that is signalled is that very process: its pid cannot be another's before
//     the supervisor has reaped it, and signals and reaping exclude each other.
//   - Reaped is said of a process only if this supervisor started it and waited for it, and
//     while its unit is held: no other is started before someone asks for it (Start, Restart).
//   - No process outlives the supervisor for long: the kernel kills it when the supervisor
//     dies, and the next supervisor ends what was left over before it starts anything.
//
// Supervisor is the thing itself, Server and Client make it reachable for other processes
// of the machine, and Releaser gives up the lease of a writer that has ended for certain.
package supervise
