package gate

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ti-mo/conntrack"

	"github.com/twinkeep/twinkeep/ha/vip"
	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

const fastRules = `table inet fast {
	flowtable f { hook ingress priority filter; devices = { va, fa }; }
	chain forward { type filter hook forward priority filter; ct state established flow add @f; }
}`

// TestShutGateHoldsFlows: a connection in a flowtable of the same hook passes as long as the gate is open; shut, or with the lease run out, no frame of it
// passes in either direction, and it goes on when the gate opens.
func TestShutGateHoldsFlows(t *testing.T) {
	b := newBench(t)
	far := netnslab.New(t)
	b.gw.Run("ip", "link", "add", "fa", "type", "veth", "peer", "name", "fb", "netns", far.Name)
	b.gw.IP("addr add 10.8.0.2/24 dev fa")
	b.gw.IP("link set fa up")
	far.IP("addr add 10.8.0.9/24 dev fb")
	far.IP("link set fb up")
	far.IP("route add default via 10.8.0.1")
	b.neighbour.IP("route add default via 10.9.0.1")
	b.gw.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.fa.rp_filter=0", "net.ipv4.conf.fa.arp_ignore=1")
	near, away := netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.8.0.1")
	other := wire.SharedMAC(0x12, 5)
	b.gw.Try(func() error {
		err := Install(Config{Cluster: 5, Member: 1, Lease: testLease, Drain: testDrain, Devices: []Device{
			{Name: "va", Shared: b.shared, VIPs: []netip.Addr{near}}, {Name: "fa", Shared: other, VIPs: []netip.Addr{away}}}})
		return errors.Join(err, vip.Ensure(vip.Config{Parent: "fa", MAC: other, Addrs: []netip.Addr{away}}))
	})
	cmd := exec.Command("ip", "netns", "exec", b.gw.Name, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(fastRules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("this kernel has no flowtables (make test-flowtable runs one that has): %s", out)
	}

	var ends [2]*net.UDPConn // neighbour, far
	for i, e := range []struct {
		ns        *netnslab.NS
		mine, his string
	}{{b.neighbour, "10.9.0.9:7000", "10.8.0.9:7000"}, {far, "10.8.0.9:7000", "10.9.0.9:7000"}} {
		e.ns.Try(func() (err error) {
			ends[i], err = net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(e.mine)), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(e.his)))
			return err
		})
		defer ends[i].Close()
	}
	passes := func(from, to int) bool {
		t.Helper()
		to1 := ends[to]
		to1.SetReadDeadline(time.Now().Add(testLease * 3 / 4))
		if _, err := ends[from].Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_, err := to1.Read(make([]byte, 8))
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		return err == nil
	}
	flows := func(when string) {
		t.Helper()
		n := 0 // a datagram may wait for ARP, or be late on a busy machine
		for end := time.Now().Add(20 * time.Second); n < 10 && time.Now().Before(end); {
			b.beat(wire.Open)
			if !passes(0, 1) {
				continue
			}
			if b.beat(wire.Open); passes(1, 0) {
				n++
			}
		}
		if n < 10 {
			t.Fatalf("%s the connection does not flow", when)
		}
		b.gw.Try(func() error {
			c, err := conntrack.Dial(nil)
			if err != nil {
				return err
			}
			defer c.Close()
			list, err := c.Dump(nil)
			if len(list) != 1 || list[0].Status.Value&conntrack.StatusOffload == 0 {
				t.Fatalf("%s the connection is not in the flowtable: %v", when, list)
			}
			return err
		})
	}
	held := func(when string) {
		t.Helper()
		for range 5 {
			if passes(0, 1) || passes(1, 0) {
				t.Fatalf("%s a frame of the flowtable passes", when)
			}
		}
	}
	flows("with the gate open")
	b.beat(wire.Shut)
	held("with the gate shut")
	time.Sleep(testLease) // a shut gate stays so for one lease
	flows("open again")
	time.Sleep(testLease + 50*time.Millisecond)
	held("without a lease")
	flows("open once more")
}
