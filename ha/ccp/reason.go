package ccp

import "github.com/twinkeep/twinkeep/ha/wire"

// Reason is why a received packet was refused: the type of the heartbeats' counters, whose names it shares
// where the cause is the same ([wire.TTLTooLow], [wire.Truncated], [wire.Oversized], [wire.Malformed],
// [wire.BadTag]).
type Reason = wire.Reason

// Reasons of CCP alone.
const (
	NotCCP        Reason = "not_ccp"         // another protocol on UDP 8116, or not IPv4/UDP 8116 at all
	ForeignCCP    Reason = "foreign_ccp"     // another product's CCP: a ClusterXL cluster on the same LAN
	UnknownOpcode Reason = "unknown_opcode"  // authentic, but of a later version or of none
	Myself        Reason = "ccp_from_myself" // our own packet came back: a mirrored port, a loop, or two members with one ID
	Flood         Reason = "flood"           // more than is looked at; the rest is left to the kernel to drop
)
