// Package ctnl is the kernel's side of state sync: connection tracking over netlink (nfnetlink, ctnetlink). It reads
// events and dumps many messages a system call, and injects many changes a system call, without an acknowledgement
// each: on 2026 hardware that is five to ten times what one request and one answer a connection reach.
//
// Nothing that a peer sent reaches the kernel as it came: messages are built here from checked values
// (statesync.Flow, statesync.Expect).
package ctnl
