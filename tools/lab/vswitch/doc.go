// Package vswitch is a learning Ethernet switch in user space. A port is a stream connection that carries
// frames as QEMU's `-netdev stream` does: a 4-byte big-endian length, then the Ethernet frame without FCS.
//
// What is guaranteed:
//   - frames from one port to one port keep their order, unless a rule with Reorder is set;
//   - a slow or stuck port never holds up another one: every port has a bounded queue, and what does not fit
//     is dropped and counted at that port;
//   - a capture holds whole frames at any moment, also after SIGKILL of the lab.
//
// The decisions (Table, Impair) are pure: they get the time and the random source from the caller.
package vswitch
