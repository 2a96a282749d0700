package probe

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// MessageLen is the length of a request and of a reply, so that an echo server never sends more than it got.
const MessageLen = 64

// Magic words: what is not a probe is not answered.
const (
	magicRequest = 0x544b5051 // "TKPQ"
	magicReply   = 0x544b5052 // "TKPR"
)

// Message is one numbered request or its reply. Layout, big-endian: magic 4, run 4, sequence 8, send time 8,
// count 8, address family 1 (0 none, 4, 6), zero 1, port 2, address 16, zeros.
type Message struct {
	Reply bool
	Run   uint32         // picked by the client: replies to an earlier probe from the same port are not taken
	Seq   uint64         // from 0
	Sent  int64          // client's monotonic clock, ns
	Count uint64         // in a reply: requests of this run that the server has seen
	Seen  netip.AddrPort // in a reply: the source the server saw
}

// ErrMessage is returned for bytes that are no probe message.
var ErrMessage = errors.New("not a probe message")

// Append appends the encoded message to b.
func (m Message) Append(b []byte) []byte {
	be := binary.BigEndian
	magic := uint32(magicRequest)
	if m.Reply {
		magic = magicReply
	}
	start := len(b)
	b = be.AppendUint32(b, magic)
	b = be.AppendUint32(b, m.Run)
	b = be.AppendUint64(b, m.Seq)
	b = be.AppendUint64(b, uint64(m.Sent))
	b = be.AppendUint64(b, m.Count)
	addr, family := m.Seen.Addr().Unmap(), byte(0)
	switch {
	case addr.Is4():
		family = 4
	case addr.Is6():
		family = 6
	}
	b = append(b, family, 0)
	b = be.AppendUint16(b, m.Seen.Port())
	b = append(b, addr.WithZone("").AsSlice()...)
	return append(b, make([]byte, MessageLen-(len(b)-start))...)
}

// Parse decodes a message.
func Parse(b []byte) (Message, error) {
	if len(b) != MessageLen {
		return Message{}, ErrMessage
	}
	be := binary.BigEndian
	m := Message{Run: be.Uint32(b[4:]), Seq: be.Uint64(b[8:]), Sent: int64(be.Uint64(b[16:])), Count: be.Uint64(b[24:])}
	switch be.Uint32(b) {
	case magicRequest:
	case magicReply:
		m.Reply = true
	default:
		return Message{}, ErrMessage
	}
	port := be.Uint16(b[34:])
	switch b[32] {
	case 0:
	case 4:
		m.Seen = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[36:40])), port)
	case 6:
		m.Seen = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[36:52])).Unmap(), port)
	default:
		return Message{}, ErrMessage
	}
	return m, nil
}
