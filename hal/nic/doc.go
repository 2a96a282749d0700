// Package nic finds the physical network interfaces of the machine, says where on the PCI tree each one sits, gives
// them stable names and derives the addresses that high availability uses on the wire.
//
// # Place
//
// The kernel numbers interfaces in the order in which drivers probed them, which changes with the kernel, the driver
// and the weather. A [Place] (domain, bus, slot, port) does not, so everything here goes by place. Lists are ordered
// by topology: by the root bus, then hop by hop (slot, function) from the root port down to the device. Bus numbers
// below the root are handed out during enumeration and move when a card is added; they do not take part in the order.
//
// # NN
//
// NN is the byte that tells one interface of a member from another in the addresses
//
//	11:00:00:00:NN:MM  destination of heartbeats (group address)
//	10:00:00:00:NN:MM  shared MAC that virtual addresses answer with (same address, group bit clear)
//
// where MM is the cluster ID. Clavister describes NN as a bit mask of bus, slot and port and does not publish the
// bits. Ours are:
//
//	bit   7   6   5 | 4   3   2 | 1   0
//	      bus & 7   | slot & 7  | port & 3
//
// Identical hardware therefore gets identical shared MACs on both members without configuration. Eight bits cannot
// hold every place: interfaces of one member that share an NN are found by [Collisions], and the operator then
// chooses one by hand.
package nic
