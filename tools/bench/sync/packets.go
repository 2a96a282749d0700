package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/tools/bench/topology"
)

// snat translates all clients to one address, with ports chosen at random.
const snat = `table ip nat {
	chain postrouting {
		type nat hook postrouting priority srcnat
		ip saddr 10.0.0.0/8 oifname "wan" snat to 192.0.2.1 fully-random
	}
}
`

// sink drops what arrives at the server before it could answer.
const sink = `table netdev sink {
	chain in {
		type filter hook ingress device "wan" priority 0
		ip protocol udp drop
	}
}
`

// addTraffic puts a client and a server to the active gateway's sides.
func (l *lab) addTraffic() error {
	l.client = topology.Namespace(fmt.Sprintf("tks%d-client", os.Getpid()))
	l.server = topology.Namespace(fmt.Sprintf("tks%d-server", os.Getpid()))
	for _, x := range []struct {
		ns  topology.Namespace
		nic string
	}{{l.client, "lan"}, {l.server, "wan"}} {
		if out, err := exec.Command("ip", "netns", "add", string(x.ns)).CombinedOutput(); err != nil {
			return fmt.Errorf("make a namespace: %s", out)
		}
		if out, err := exec.Command("ip", "-netns", string(l.a.ns), "link", "add", x.nic, "type", "veth", "peer", "name", x.nic, "netns", string(x.ns)).CombinedOutput(); err != nil {
			return fmt.Errorf("join the namespaces: %s", out)
		}
	}
	return errors.Join(
		l.a.ns.Set("net/ipv4/ip_forward=1", "net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0"),
		l.a.ns.Batch("link set lan up", "link set wan up", "addr add 10.255.0.1/24 dev lan", "addr add 192.0.2.1/24 dev wan", "route add 10.0.0.0/8 dev lan", "route add 198.51.100.0/24 via 192.0.2.10"),
		l.a.ns.Run(snat, "nft", "-f", "-"),
		l.client.Batch("link set lan up", "addr add 10.255.0.2/24 dev lan", "route add default via 10.255.0.1"),
		l.server.Batch("link set wan up", "addr add 192.0.2.10/24 dev wan"),
		l.server.Run(sink, "nft", "-f", "-"),
		// Addresses of neighbours are known before the first packet that counts.
		l.client.Run("", "ping", "-c1", "-W2", "10.255.0.1"), l.a.ns.Run("", "ping", "-c1", "-W2", "192.0.2.10"),
	)
}

// udpPacket writes the i-th flow's one packet: IPv4 and UDP headers, and a payload of 8 bytes.
func udpPacket(b []byte, i int, payload uint64) []byte {
	f := flow(i).Flow
	b = append(b[:0], 0x45, 0, 0, udpSize, 0, 0, 0x40, 0, 64, unix.IPPROTO_UDP, 0, 0) // the kernel fills in the checksum (raw(7))
	b = append(b, f.Orig.Src[:4]...)
	b = append(b, f.Orig.Dst[0], f.Orig.Dst[1], f.Orig.Dst[2], byte(1+i%250)) // ports of one address are soon used up
	b = binary.BigEndian.AppendUint16(b, f.Orig.SrcPort)
	b = append(b, 0, 53, 0, 16, 0, 0)
	return binary.BigEndian.AppendUint64(b, payload)
}

const udpSize = 36

// epoch is what packets count their time from.
var epoch = time.Now()

// sendPackets lets the client begin connections at a rate.
func (l *lab) sendPackets(ctx context.Context, total, rate int) error {
	var fd int
	if err := l.client.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	}); err != nil {
		return err
	}
	defer unix.Close(fd)
	began := time.Now()
	var b []byte
	for sent := 0; sent < total && ctx.Err() == nil; {
		due := min(total, int(time.Since(began).Seconds()*float64(rate))+1)
		for ; sent < due; sent++ {
			b = udpPacket(b, sent, uint64(time.Since(epoch)))
			if err := unix.Sendto(fd, b, 0, &unix.SockaddrInet4{Addr: [4]byte(b[16:20])}); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return fmt.Errorf("send packet %d: %w", sent, err)
			}
		}
		time.Sleep(time.Millisecond)
	}
	return ctx.Err()
}
