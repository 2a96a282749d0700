package capture

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/capture/pcapng"
)

// tagLen is the length of a VLAN tag, tagAt where it stands in a frame.
const (
	tagLen = 4
	tagAt  = 12
)

// Layout of struct tpacket_auxdata (linux/if_packet.h), in the machine's byte order.
const (
	auxLen      = 20
	auxStatus   = 0
	auxLength   = 4
	auxVLANTCI  = 16
	auxVLANTPID = 18
)

// frame makes a packet of what the kernel gave: buf has room for a tag in front of the frame, oob the control messages. A tag that the kernel
// has taken off is put back, as it was on the wire.
func frame(buf, oob []byte, direction pcapng.Direction) pcapng.Packet {
	p := pcapng.Packet{Direction: direction, Data: buf[tagLen:], Length: len(buf) - tagLen}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, m := range messages {
			ne := binary.NativeEndian
			switch {
			case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16:
				p.Time = time.Unix(int64(ne.Uint64(m.Data)), int64(ne.Uint64(m.Data[8:])))
			case m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= auxLen:
				p.Length = int(ne.Uint32(m.Data[auxLength:]))
				if status := ne.Uint32(m.Data[auxStatus:]); status&unix.TP_STATUS_VLAN_VALID != 0 && len(p.Data) >= tagAt {
					tpid := uint16(unix.ETH_P_8021Q)
					if status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
						tpid = ne.Uint16(m.Data[auxVLANTPID:])
					}
					copy(buf, buf[tagLen:tagLen+tagAt])
					binary.BigEndian.PutUint16(buf[tagAt:], tpid)
					binary.BigEndian.PutUint16(buf[tagAt+2:], ne.Uint16(m.Data[auxVLANTCI:]))
					p.Data, p.Length = buf, p.Length+tagLen
				}
			}
		}
	}
	if p.Time.IsZero() {
		p.Time = time.Now()
	}
	return p
}
