// Package hold keeps back the first packet of a connection on its way out until somebody says that it may go: the peers have
// the connection then, and a member that dies right after it leaves nothing behind that nobody knows.
//
// The packet is caught in the egress hook of its NIC: there its connection is in the kernel's table and was told of, with its
// translation. nf_queue, the obvious way, sits before the point where that happens. A rule copies the frame to one end of a
// veth pair, drops the original, and this package reads it from the other end and sends it out of the NIC when it may.
//
// The rule holds frames only while an element of a set is alive, which the owner has to renew: when the owner dies or stands
// still, connections begin as if there were no hold.
package hold
