// Package cluster holds every decision of a cluster member: who is alive, who holds the role, when to take
// it, when to let go. It is one pure state machine, [Machine]: the same events at the same instants give
// the same actions. It has no clock, no socket and no goroutine; ha/member drives it.
//
// # The driver's duties
//
//  1. Call [Machine.Step] with events in the order they happened, with a monotonic [Instant] that never goes
//     back, and carry out the returned actions in their order before the next Step.
//  2. Call Step with [Tick] no later than [Machine.Deadline], and drain received heartbeats before a Tick,
//     so that a late wake-up judges peers by what has already arrived.
//  3. Before a [Send] whose order is Keep leaves, look at the clock: when more than the lease has passed since
//     the last such beat really left, drop it and Step with [GateLost]. The kernel refuses it in any case.
//     Before one whose order is Open leaves, do the same with the time since the Step.
//  4. Report with [GateLost] when the kernel's gate is found shut although [Machine.Holds].
//  5. Report with [ShutLate] when a beat whose order is Shut or Drain has left more than [ShutMargin] after its Step.
//
// # How the role stays single
//
// The holder's gate is open only while its own beats keep leaving (lease). Peers judge it dead after the
// dead time, counted from the last beat they heard. [Timing.Validate] demands lease + beat < dead: the last
// beat a peer heard on any one interface is at most one beat older than the last that left on any other,
// so the gate is shut before a peer may open its own. A member that finds it slept longer than its lease
// has lost the role already, and says nothing until it has listened for a dead time.
//
// # Freshness
//
// No clock is compared between members. A boot nonce and a sequence order the beats of one boot; a new boot
// is believed only when its beats echo our own nonce and a recent sequence of ours, which no recording can.
package cluster
