package netconf

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/hal/rtnl"
)

// ifaProto is IFA_PROTO of linux/if_addr.h: who made the address. The netlink library does not know it yet, so
// addresses are read and written here.
const ifaProto = 11

// address is an address on a device.
type address struct {
	index  int
	prefix netip.Prefix
}

// owned is an address with the mark of whoever made it.
type owned struct {
	address
	protocol byte
}

func listAddresses() ([]owned, error) {
	messages, err := rtnl.Whole(func() ([][]byte, error) {
		req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfAddrmsg(unix.AF_UNSPEC))
		return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []owned
	for _, m := range messages {
		msg := nl.DeserializeIfAddrmsg(m)
		attrs, err := nl.ParseRouteAttr(m[msg.Len():])
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		var a owned
		var local, peer netip.Addr
		for _, attr := range attrs {
			switch attr.Attr.Type {
			case unix.IFA_LOCAL:
				local, _ = netip.AddrFromSlice(attr.Value)
			case unix.IFA_ADDRESS:
				peer, _ = netip.AddrFromSlice(attr.Value)
			case ifaProto:
				a.protocol = attr.Value[0]
			}
		}
		if !local.IsValid() {
			local = peer // IPv6 sends IFA_LOCAL only for point-to-point addresses
		}
		a.index, a.prefix = int(msg.Index), netip.PrefixFrom(local, int(msg.Prefixlen))
		out = append(out, a)
	}
	return out, nil
}

func (a address) add() error {
	return a.send(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, nl.NewRtAttr(ifaProto, []byte{Protocol}))
}

func (a address) remove() error { return a.send(unix.RTM_DELADDR, unix.NLM_F_ACK) }

func (a address) send(command, flags int, more ...*nl.RtAttr) error {
	family := unix.AF_INET6
	if a.prefix.Addr().Is4() {
		family = unix.AF_INET
	}
	msg := nl.NewIfAddrmsg(family)
	msg.Index, msg.Prefixlen = uint32(a.index), uint8(a.prefix.Bits())
	req := nl.NewNetlinkRequest(command, flags)
	req.AddData(msg)
	raw := a.prefix.Addr().AsSlice()
	req.AddData(nl.NewRtAttr(unix.IFA_LOCAL, raw))
	req.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, raw))
	if family == unix.AF_INET && a.prefix.Bits() <= 30 {
		// Heartbeats go to the broadcast address; the kernel does not work it out by itself.
		broadcast := append([]byte(nil), raw...)
		for bit := a.prefix.Bits(); bit < 32; bit++ {
			broadcast[bit/8] |= 0x80 >> (bit % 8)
		}
		req.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, broadcast))
	}
	for _, attr := range more {
		req.AddData(attr)
	}
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
