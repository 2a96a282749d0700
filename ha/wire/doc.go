// Package wire turns heartbeats into bytes and back. It is pure: no sockets, no clocks, no state but the
// key; everything that arrives from a network passes [ParseFrame], [Key.Open] and [ParseBeat] before any
// decision sees it, and every refusal is a [Reason] that is counted by name.
//
// # Frame
//
// A heartbeat is one Ethernet II frame, built after Clavister's (DESIGN §5):
//
//	Ethernet  destination 11-00-00-00-NN-MM, source the NIC's own MAC, type 0x0800
//	IPv4      source the interface's private address, destination its broadcast, TTL 255, no options
//	UDP       999 → 999
//	payload   below
//
// The IPv4 header checksum and the UDP checksum are wrong on purpose, so that no router forwards a
// heartbeat; [Envelope.ValidChecksums] makes them right for bridges that drop wrong ones. A TTL other
// than 255 means that the frame passed a router, and it is refused.
//
// # Payload, version 1
//
// Big-endian. Offsets are from the start of the UDP payload, which is byte 42 of the frame.
//
//	off len field
//	  0   2 magic 0x544B
//	  2   1 version of the sender, ≥ 1
//	  3   1 flags: bit 0 holder, 1 sync interface, 2 in sync, 3 farewell, 4 yielding, 5 claiming,
//	      6 bidding, 7 ceded
//	  4   1 cluster ID, 1..255
//	  5   1 member ID, 1..8; a witness 9..11
//	  6   1 state
//	  7   1 number of the interface it left by
//	  8   8 boot nonce
//	 16   8 sequence, grows by one with every heartbeat of this boot; all ones in a farewell
//	 24   8 term
//	 32   2 demotion, 0 = fit, 65535 = not eligible
//	 34   1 priority
//	 35   1 NN of the interface it left by
//	 36   4 connections in the connection table
//	 40   8 serial number of the member
//	 48   8 state digest
//	 56   8 policy revision
//	 64   8 policy digest, first eight bytes
//	 72   1 n, number of peers heard, 0..10
//	 73   1 order to the sender's own gate: 0 none, 1 keep, 2 open, 3 shut, 4 drain
//	 74   1 successor: the member that a member which gives the role away wants to have it, 0 none
//	 75   1 vote: the member whose claim to the role the sender supports, 0 none
//	 76   2 x, length of the extension area
//	 78 18n per peer: member ID, zero, boot nonce (8), last sequence heard on this interface (8)
//	      x extension area; whatever a reader does not know it skips
//	     16 tag: HMAC-SHA-256, first 16 bytes, over everything before it
//
// Later versions only ever append to the extension area, so members of versions N and N+1 understand
// each other.
//
// The order is what ties the gate to what peers hear: the kernel of the sender reads it as the frame
// leaves (ha/gate matches magic, cluster ID, member ID and order at these offsets). A beat that says
// "I hold the role" is the beat that keeps the gate open, and one that says "no longer" has shut it before
// it is on the wire. Receivers ignore the order.
package wire
