// Package supervise starts services in order, restarts what dies, keeps what
// they print, and stops them in reverse order. PID 1 and `twinkeep run` use it.
//
// What it promises:
//
//   - A service starts when every service in its After list has settled: is
//     ready, has failed once, or has used up its ReadyTimeout. Order is never
//     a reason not to start: a gateway whose configuration is broken still
//     gets its console.
//   - OnExit is called the moment the process has died, before any delay, and
//     the next start waits until it has returned (at most a second).
//   - A service that keeps dying is retried for ever, at Policy.Max intervals.
//   - When Run returns, no process of any service's process group is left.
//     When the supervisor itself is killed (not as PID 1), the kernel kills
//     its direct children.
//   - Output never blocks a service: the journal is bounded, readers that are
//     too slow lose the oldest lines and see a gap in Seq.
package supervise
