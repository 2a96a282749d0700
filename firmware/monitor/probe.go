package monitor

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/mdlayher/arp"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// prober asks one host whether it is there. It returns at the latest when ctx ends; nil means that it answered.
type prober interface {
	probe(ctx context.Context, host netip.Addr) error
}

// icmpProbe sends an echo request (RFC 792, RFC 4443) and waits for its reply.
type icmpProbe struct{}

func (icmpProbe) probe(ctx context.Context, host netip.Addr) error {
	network, proto, request, reply := "ip4:icmp", 1, icmp.Type(ipv4.ICMPTypeEcho), icmp.Type(ipv4.ICMPTypeEchoReply)
	if host.Is6() {
		network, proto, request, reply = "ip6:ipv6-icmp", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	conn, err := icmp.ListenPacket(network, "")
	if err != nil {
		return fmt.Errorf("open an ICMP socket: %w", err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	// The identifier tells our replies from those to others; two probes at once differ by their host.
	id := os.Getpid() & 0xffff
	token := binary.BigEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))
	m := icmp.Message{Type: request, Body: &icmp.Echo{ID: id, Seq: 1, Data: token}}
	b, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := conn.WriteTo(b, &net.IPAddr{IP: host.AsSlice()}); err != nil {
		return err
	}
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		r, err := icmp.ParseMessage(proto, buf[:n])
		if err != nil || r.Type != reply {
			continue
		}
		echo, ok := r.Body.(*icmp.Echo)
		if ip, isIP := from.(*net.IPAddr); ok && isIP && ip.IP.Equal(host.AsSlice()) && echo.ID == id && string(echo.Data) == string(token) {
			return nil
		}
	}
}

// tcpProbe opens a connection and closes it again.
type tcpProbe struct{ port uint16 }

func (p tcpProbe) probe(ctx context.Context, host netip.Addr) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(host.String(), strconv.Itoa(int(p.port))))
	if err != nil {
		return err
	}
	return conn.Close()
}

// arpProbe asks for the host's Ethernet address on the link (RFC 826).
type arpProbe struct{ device string }

func (p arpProbe) probe(ctx context.Context, host netip.Addr) error {
	ifi, err := net.InterfaceByName(p.device)
	if err != nil {
		return fmt.Errorf("find %s: %w", p.device, err)
	}
	c, err := arp.Dial(ifi)
	if err != nil {
		return fmt.Errorf("open %s for ARP: %w", p.device, err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	_, err = c.Resolve(host)
	return err
}
