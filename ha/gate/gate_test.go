package gate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"github.com/twinkeep/twinkeep/ha/vip"
	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

const (
	testLease = 200 * time.Millisecond // long enough to ping inside one lease on a busy machine
	testDrain = 600 * time.Millisecond
)

// bench is a member with a VIP behind a gate, and a neighbour.
type bench struct {
	t               *testing.T
	gw, neighbour   *netnslab.NS
	conn            *packet.Conn
	shared, beatMAC wire.MAC
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, gw: netnslab.New(t), neighbour: netnslab.New(t), shared: wire.SharedMAC(0x11, 5), beatMAC: wire.BeatMAC(0x11, 5)}
	b.gw.Run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", b.neighbour.Name)
	b.gw.Run("ip", "link", "set", "va", "up")
	b.gw.Run("ip", "addr", "add", "10.9.0.2/24", "dev", "va")
	b.gw.Run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.va.arp_ignore=1", "net.ipv4.conf.va.arp_announce=2", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.va.rp_filter=0")
	b.neighbour.Run("ip", "addr", "add", "10.9.0.9/24", "dev", "vb")
	b.neighbour.Run("ip", "link", "set", "vb", "up")
	b.gw.Do(func() {
		v := netip.MustParseAddr("10.9.0.1")
		if err := Install(Config{Cluster: 5, Member: 1, Lease: testLease, Drain: testDrain, Devices: []Device{{Name: "va", Shared: b.shared, VIPs: []netip.Addr{v}}}}); err != nil {
			t.Fatal(err)
		}
		if err := vip.Ensure(vip.Config{Parent: "va", MAC: b.shared, Addrs: []netip.Addr{v}}); err != nil {
			t.Fatal(err)
		}
		ifi, err := net.InterfaceByName("va")
		if err != nil {
			t.Fatal(err)
		}
		if b.conn, err = packet.Listen(ifi, packet.Raw, 0x0800, nil); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { b.conn.Close() })
	return b
}

// beat sends a heartbeat of the member that carries the order.
func (b *bench) beat(o wire.Order) {
	b.t.Helper()
	beat := wire.Beat{Version: 1, Cluster: 5, Member: 1, State: wire.Active, Interface: 1, Nonce: 1, Seq: 1, Order: o}
	b.send(beat.Append(nil))
}

func (b *bench) send(payload []byte) {
	b.t.Helper()
	e := wire.Envelope{Dst: b.beatMAC, Src: wire.MAC{2, 0, 0, 0, 0, 1}, SrcIP: netip.MustParseAddr("10.9.0.2"), DstIP: netip.MustParseAddr("10.9.0.255")}
	_, err := b.conn.WriteTo(wire.AppendFrame(nil, e, append(payload, make([]byte, wire.TagLen)...)), &packet.Addr{HardwareAddr: b.beatMAC[:]})
	if err != nil && !Refused(err) {
		b.t.Fatal(err)
	}
}

// answers reports whether the VIP answers a ping now. The neighbour knows the shared MAC already, so that
// one round trip decides.
func (b *bench) answers() bool {
	b.neighbour.Run("ip", "neigh", "replace", "10.9.0.1", "lladdr", net.HardwareAddr(b.shared[:]).String(), "dev", "vb", "nud", "permanent")
	return exec.Command("ip", "netns", "exec", b.neighbour.Name, "ping", "-c1", "-W0.05", "10.9.0.1").Run() == nil
}

// resolves reports whether ARP for the VIP is answered now.
func (b *bench) resolves() bool {
	b.neighbour.Run("ip", "neigh", "flush", "dev", "vb", "nud", "all")
	exec.Command("ip", "netns", "exec", b.neighbour.Name, "ping", "-c1", "-W0.05", "10.9.0.1").Run()
	out := b.neighbour.Run("ip", "neigh", "show", "10.9.0.1")
	return len(out) > 0 && !strings.Contains(out, "INCOMPLETE") && !strings.Contains(out, "FAILED")
}

func (b *bench) state() (s State) {
	b.t.Helper()
	b.gw.Do(func() {
		var err error
		if s, err = Read(); err != nil {
			b.t.Fatal(err)
		}
	})
	return s
}

func TestGateFollowsOrders(t *testing.T) {
	b := newBench(t)

	if b.answers() || b.resolves() {
		t.Fatal("a freshly installed gate is open")
	}
	b.beat(wire.Keep)
	if b.answers() || b.state().Open {
		t.Fatal("keep opened a gate that had no lease")
	}
	b.beat(wire.NoOrder)
	if b.answers() {
		t.Fatal("a heartbeat without an order opened the gate")
	}

	b.beat(wire.Open)
	if !b.state().Open || !b.answers() {
		t.Fatal("open did not open the gate")
	}
	b.beat(wire.Open)
	if !b.resolves() {
		t.Fatal("no ARP answer for the VIP through an open gate")
	}

	b.beat(wire.Open)
	time.Sleep(testLease + 20*time.Millisecond)
	if b.answers() || b.state().Open {
		t.Fatal("the gate stayed open after the lease")
	}
	b.beat(wire.Keep)
	if b.answers() {
		t.Fatal("a late keep revived the gate")
	}

	b.beat(wire.Open)
	for range 6 { // three leases long
		time.Sleep(testLease / 2)
		b.beat(wire.Keep)
	}
	if !b.answers() {
		t.Fatal("keep did not keep the gate open")
	}

	b.beat(wire.Keep)
	b.beat(wire.Shut)
	if b.answers() || b.state().Open {
		t.Fatal("the gate answers after shut")
	}
	b.beat(wire.Keep)
	if b.answers() {
		t.Fatal("keep revived the gate after shut")
	}
}

// TestLateBeatDoesNotLeave: a holder's heartbeat whose lease has run out must not reach the peers.
func TestLateBeatDoesNotLeave(t *testing.T) {
	b := newBench(t)
	var in *packet.Conn
	b.neighbour.Do(func() {
		ifi, err := net.InterfaceByName("vb")
		if err != nil {
			t.Fatal(err)
		}
		if in, err = packet.Listen(ifi, packet.Raw, 0x0800, nil); err != nil {
			t.Fatal(err)
		}
	})
	defer in.Close()
	orders := []wire.Order{wire.Keep, wire.Shut, wire.NoOrder, wire.Drain, wire.Open, wire.Keep}
	for _, o := range orders {
		b.beat(o)
	}
	var got []wire.Order
	buf := make([]byte, 2000)
	for len(got) < len(orders) {
		in.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		n, _, err := in.ReadFrom(buf)
		if err != nil {
			break
		}
		if _, p, err := wire.ParseFrame(buf[:n]); err == nil {
			got = append(got, wire.Order(p[wire.OffsetOrder]))
		}
	}
	// The last keep follows a shut within its lease, so it is dropped as well.
	want := []wire.Order{wire.Shut, wire.NoOrder, wire.Drain, wire.Open}
	if len(got) != len(want) {
		t.Fatalf("heartbeats on the wire: %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("heartbeats on the wire: %v, want %v", got, want)
		}
	}
}

// TestDrainLetsInButNotOut: while draining, frames to the shared MAC come in, ARP is not answered.
func TestDrainLetsInButNotOut(t *testing.T) {
	b := newBench(t)
	b.beat(wire.Open)
	b.beat(wire.Drain)
	s := b.state()
	if s.Open || !s.Draining {
		t.Fatalf("after drain: %+v", s)
	}
	if !b.answers() {
		t.Fatal("a draining gate let nothing in") // the reply leaves from the NIC's own MAC
	}
	if b.resolves() {
		t.Fatal("a draining gate answered ARP")
	}
	b.beat(wire.Drain)
	b.leavesDraining()
	time.Sleep(testDrain)
	if b.answers() {
		t.Fatal("the gate still drains after its time")
	}
}

// leavesDraining sends frames from the shared MAC, as a flowtable does for the flows it carries: data leave from the NIC's own MAC, what speaks for the
// addresses does not leave.
func (b *bench) leavesDraining() {
	b.t.Helper()
	peer := b.neighbour.Raw("vb")
	defer peer.Close()
	own := b.gw.MAC("va")
	frame := func(etherType uint16, body []byte) []byte {
		f := append(slices.Clone(b.neighbour.MAC("vb")), b.shared[:]...)
		return append(binary.BigEndian.AppendUint16(f, etherType), append(body, make([]byte, 46)...)...)
	}
	ip6 := func(nextHeader, icmpType byte) []byte {
		h := make([]byte, 41)
		h[0], h[6], h[40] = 0x60, nextHeader, icmpType
		return h
	}
	for _, f := range [][]byte{
		frame(0x0806, []byte("ARP")), frame(0x86dd, ip6(58, 136)), frame(0x86dd, ip6(58, 133)), frame(0x88b5, []byte("other")),
		frame(0x0800, []byte{0x45}), frame(0x86dd, ip6(17, 136)), frame(0x86dd, ip6(58, 129)),
	} {
		if _, err := b.conn.WriteTo(f, &packet.Addr{HardwareAddr: f[:6]}); err != nil && !Refused(err) {
			b.t.Fatal(err)
		}
	}
	var got []string
	buf := make([]byte, 2000)
	peer.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	for {
		n, _, err := peer.ReadFrom(buf)
		if err != nil {
			break
		}
		if n == 14+1+46 || n == 14+3+46 || n == 14+5+46 || n == 14+41+46 {
			got = append(got, fmt.Sprintf("%x from own %v", buf[12:14], bytes.Equal(buf[6:12], own)))
		}
	}
	if want := []string{"0800 from own true", "86dd from own true", "86dd from own true"}; !slices.Equal(got, want) {
		b.t.Errorf("a draining gate let out %q, want %q", got, want)
	}
}

// TestStrangersDoNotWorkTheGate: other members' and other clusters' heartbeats that leave this box (it may
// bridge) are no orders.
func TestStrangersDoNotWorkTheGate(t *testing.T) {
	b := newBench(t)
	for name, beat := range map[string]wire.Beat{
		"other member":  {Version: 1, Cluster: 5, Member: 2, State: wire.Active, Order: wire.Open},
		"other cluster": {Version: 1, Cluster: 6, Member: 1, State: wire.Active, Order: wire.Open},
	} {
		b.send(beat.Append(nil))
		if b.state().Open {
			t.Errorf("a heartbeat of the %s opened the gate", name)
		}
	}
}

func TestReadWithoutGate(t *testing.T) {
	netnslab.New(t).Do(func() {
		if _, err := Read(); err != ErrGone {
			t.Errorf("Read without a gate: %v, want ErrGone", err)
		}
	})
}

// TestVIPOnlyFromTheSharedMAC: no ARP may say a VIP with the NIC's own MAC, whatever the state of the gate; the private
// address may be said.
func TestVIPOnlyFromTheSharedMAC(t *testing.T) {
	b := newBench(t)
	b.beat(wire.Open)
	own := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for sender, refused := range map[string]bool{"10.9.0.1": true, "10.9.0.2": false} {
		f := append([]byte{255, 255, 255, 255, 255, 255}, own...)
		f = append(f, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
		f = append(append(f, own...), net.ParseIP(sender).To4()...)
		f = append(f, 0, 0, 0, 0, 0, 0, 10, 9, 0, 9)
		if _, err := b.conn.WriteTo(f, &packet.Addr{HardwareAddr: net.HardwareAddr{255, 255, 255, 255, 255, 255}}); (err != nil && Refused(err)) != refused {
			t.Errorf("ARP from %s: %v", sender, err)
		}
	}
}

// TestSetVIPs: other VIPs change neither an open gate nor a shut one; what the NIC's own MAC may say of an address follows.
func TestSetVIPs(t *testing.T) {
	b := newBench(t)
	list := func() string { return b.gw.Run("nft", "list", "set", "netdev", Table, "vips-va") }
	set := func(addrs ...string) {
		t.Helper()
		var vips []netip.Addr
		for _, a := range addrs {
			vips = append(vips, netip.MustParseAddr(a))
		}
		var err error
		b.gw.Do(func() { err = SetVIPs("va", vips) })
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range addrs {
			if netip.MustParseAddr(a).Is4() && !strings.Contains(list(), a) {
				t.Errorf("%s is not in the gate:\n%s", a, list())
			}
		}
	}
	set("10.9.0.1", "10.9.0.7", "fd00::1")
	if b.state().Open || b.answers() {
		t.Fatal("other VIPs opened the gate")
	}
	b.beat(wire.Open)
	set("10.9.0.1", "10.9.0.8")
	if !b.state().Open || !b.answers() {
		t.Error("other VIPs shut the gate")
	}
	if strings.Contains(list(), "10.9.0.7") {
		t.Errorf("a VIP that is gone is in the gate:\n%s", list())
	}
	set()
	if strings.Contains(list(), "10.9.0") {
		t.Errorf("without VIPs:\n%s", list())
	}
	b.gw.Do(func() {
		if err := SetVIPs("none", nil); err == nil {
			t.Error("VIPs of a device that has no gate were taken")
		}
	})
}
