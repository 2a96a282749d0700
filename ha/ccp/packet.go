package ccp

import (
	"encoding/binary"
	"math"

	"github.com/twinkeep/twinkeep/ha/wire"
)

const (
	// Magic starts every CCP packet of every product.
	Magic = 0x1A90
	// Version is the header's protocol version, the same in all our versions ([Packet.Version] is the one
	// that grows). Wireshark reads policy ID and filler in every version but 1; and because a ClusterXL member
	// that hears a version below its own is said to stay READY, this one is above all that Wireshark lists.
	Version = 65001
	// TrailerMagic starts the authentication trailer: "TC".
	TrailerMagic = 0x5443

	TagLen       = wire.TagLen
	MaxMembers   = wire.MaxMembers
	MaxExtension = wire.MaxExtension
	MaxHash      = 512
	// MaxSync leaves room for the longest extension area.
	MaxSync = MaxPayload - minPayload - syncLenLen - MaxExtension
	// MaxPayload is the longest payload this version accepts: what an Ethernet frame carries.
	MaxPayload = 1500 - 20 - 8
	headLen    = 20
	trailerLen = 22 // without extension area and tag
	minPayload = headLen + trailerLen + TagLen
)

// Everyone is the destination of a packet for all members.
const Everyone = 0

// Packet is one CCP packet: header, message and trailer. See the package documentation for the layout.
type Packet struct {
	// Version is the sender's version of this protocol, 1 or higher; it travels in the trailer.
	Version uint16
	// Cluster is the cluster ID, 1..255.
	Cluster uint8
	// Interface is the number of the interface the packet left by.
	Interface uint8
	// RandomID is any number in a request; its reply has the same.
	RandomID uint16
	// Source is the sender's member ID, Destination the receiver's or [Everyone].
	Source, Destination uint8
	// PolicyID identifies the policy the sender runs, see [PolicyID].
	PolicyID uint16
	// Message must not be nil.
	Message Message
	// Nonce and Seq are the sender's boot nonce and its sequence for CCP, which grows by one with every
	// packet of this boot. Keeping replays out is up to the caller.
	Nonce, Seq uint64
	// Extension is the area of fields this version does not know, as received.
	Extension []byte
}

// PolicyID is what the header says of a policy: its revision up to 65535, and from there on 1..65535 again, so that 0 is
// always none. It is for whoever reads a capture; who runs the same policy is told by the digests in heartbeats.
func PolicyID(revision uint64) uint16 {
	if revision == 0 {
		return 0
	}
	return uint16((revision-1)%math.MaxUint16 + 1)
}

// Append appends the packet without its tag to dst. It writes what it is told: what is over a limit of this
// package, readers refuse.
func (p *Packet) Append(dst []byte) []byte {
	be := binary.BigEndian
	dst = be.AppendUint16(dst, Magic)
	dst = be.AppendUint16(dst, Version)
	dst = append(dst, 0, p.Cluster)
	dst = be.AppendUint16(dst, uint16(p.Message.Opcode()))
	dst = append(dst, 0, p.Interface)
	dst = be.AppendUint16(dst, p.RandomID)
	dst = append(dst, 0, p.Source, 0, p.Destination)
	dst = be.AppendUint16(dst, p.PolicyID)
	dst = append(dst, 0, 0)
	dst = p.Message.append(dst)
	dst = be.AppendUint16(dst, TrailerMagic)
	dst = be.AppendUint16(dst, uint16(trailerLen+len(p.Extension)+TagLen))
	dst = be.AppendUint16(dst, p.Version)
	dst = be.AppendUint64(dst, p.Nonce)
	dst = be.AppendUint64(dst, p.Seq)
	return append(dst, p.Extension...)
}

// Parse reads a packet whose tag has been checked and cut off (see [Key.Open]). The result does not alias
// b. Errors are [Reason] values.
func Parse(b []byte) (Packet, error) {
	if err := ours(b); err != nil {
		return Packet{}, err
	}
	switch {
	case len(b) < minPayload-TagLen:
		return Packet{}, wire.Truncated
	case len(b) > MaxPayload-TagLen:
		return Packet{}, wire.Oversized
	}
	be := binary.BigEndian
	cluster, opcode, iface := be.Uint16(b[4:]), Opcode(be.Uint16(b[6:])), be.Uint16(b[8:])
	src, dst, filler := be.Uint16(b[12:]), be.Uint16(b[14:]), be.Uint16(b[18:])
	if cluster == 0 || cluster > math.MaxUint8 || iface > math.MaxUint8 || src == 0 || src > MaxMembers || dst > MaxMembers || filler != 0 {
		return Packet{}, wire.Malformed
	}
	message, trailer, err := parseMessage(opcode, b[headLen:])
	if err != nil {
		return Packet{}, err
	}
	if len(trailer) < trailerLen {
		return Packet{}, wire.Truncated
	}
	p := Packet{
		Version: be.Uint16(trailer[4:]), Cluster: uint8(cluster), Interface: uint8(iface), RandomID: be.Uint16(b[10:]),
		Source: uint8(src), Destination: uint8(dst), PolicyID: be.Uint16(b[16:]), Message: message,
		Nonce: be.Uint64(trailer[6:]), Seq: be.Uint64(trailer[14:]),
	}
	ext := trailer[trailerLen:]
	length := int(be.Uint16(trailer[2:]))
	switch {
	case be.Uint16(trailer) != TrailerMagic, p.Version == 0, length < trailerLen+TagLen:
		return Packet{}, wire.Malformed
	case length > trailerLen+len(ext)+TagLen:
		return Packet{}, wire.Truncated
	case length < trailerLen+len(ext)+TagLen, len(ext) > MaxExtension:
		return Packet{}, wire.Oversized
	}
	if len(ext) > 0 {
		p.Extension = append([]byte(nil), ext...)
	}
	return p, nil
}
