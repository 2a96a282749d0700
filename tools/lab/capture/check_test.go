package capture

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/lab/ether"
)

const testCluster = 7

var (
	start    = time.Unix(1795350000, 0)
	ownMAC   = ether.MAC{0x52, 0x54, 0, 0, 1, 1}
	vmac     = ether.MAC{0x10, 0, 0, 0, 0x20, testCluster}
	otherMAC = ether.MAC{0x10, 0, 0, 0, 0x20, testCluster + 1} // of a foreign cluster
	vip      = netip.MustParseAddr("10.1.0.1")
)

func testKey(t *testing.T) *wire.Key {
	t.Helper()
	k, err := wire.NewKey([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func at(ms int, data []byte) Frame {
	return Frame{Time: start.Add(time.Duration(ms) * time.Millisecond), Dir: In, Data: data}
}

func beatFrame(k *wire.Key, flags wire.Flags, edit func(*ether.Datagram)) []byte {
	b := wire.Beat{Version: 1, Flags: flags, Cluster: testCluster, Member: 1, State: wire.Active, Nonce: 1, Seq: 1}
	d := ether.Datagram{
		Dst: ether.MAC(wire.BeatMAC(0x20, testCluster)), Src: ownMAC, TTL: 255, WrongIP: true, WrongUDP: true,
		From: netip.MustParseAddrPort("10.1.0.2:999"), To: netip.MustParseAddrPort("10.1.0.255:999"), Payload: k.Seal(b.Append(nil)),
	}
	if edit != nil {
		edit(&d)
	}
	return d.Frame()
}

func use(src ether.MAC) []byte {
	return ether.ARP{Op: 1, SenderMAC: src, SenderIP: vip, TargetIP: vip}.Frame(src)
}

func expect(t *testing.T, f Finding, ok bool, evidence string) {
	t.Helper()
	if f.OK != ok || !strings.Contains(f.Evidence, evidence) {
		t.Errorf("%s: ok %v, evidence %q; want %v with %q", f.Name, f.OK, f.Evidence, ok, evidence)
	}
}

func TestBeats(t *testing.T) {
	k := testKey(t)
	for _, tt := range []struct {
		name     string
		edit     func(*ether.Datagram)
		ok       bool
		evidence string
	}{
		{"good", nil, true, "1 heartbeats: lan-a 1 to 11:00:00:00:20:07"},
		{"passed a router", func(d *ether.Datagram) { d.TTL = 254 }, false, "TTL 254"},
		{"right IP checksum", func(d *ether.Datagram) { d.WrongIP = false }, false, "IP checksum"},
		{"right UDP checksum", func(d *ether.Datagram) { d.WrongUDP = false }, false, "UDP checksum"},
		{"another cluster", func(d *ether.Datagram) { d.Dst[5] = 9 }, false, "11:00:00:00:20:09"},
		{"another port", func(d *ether.Datagram) { d.From = netip.MustParseAddrPort("10.1.0.2:1000") }, false, "1000→999"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			frames := []Frame{at(0, use(ownMAC)), at(1, beatFrame(k, 0, tt.edit))}
			expect(t, Beats([]Trace{{Port: "lan-a", Frames: frames}}, testCluster), tt.ok, tt.evidence)
		})
	}
	expect(t, Beats([]Trace{{Port: "lan-a"}}, testCluster), false, "no heartbeat")
	expect(t, Beats(nil, testCluster), false, "0 heartbeats")
}

func TestLease(t *testing.T) {
	k := testKey(t)
	hold, plain := beatFrame(k, wire.Holder, nil), beatFrame(k, 0, nil)
	out := at(900, use(vmac))
	out.Dir = Out
	for _, tt := range []struct {
		name     string
		lan, wan []Frame
		ok       bool
		evidence string
	}{
		{"within the lease", []Frame{at(0, hold), at(40, use(vmac))}, nil, true, "longest from a beat to a use 40ms, the lease is 45ms"},
		{"a beat on another interface counts", []Frame{at(0, hold), at(80, use(vmac))}, []Frame{at(50, hold)}, true, "to a use 30ms"},
		{"after the lease", []Frame{at(0, hold), at(90, use(vmac))}, nil, false, "90ms after the last holder beat"},
		{"a beat of a standby holds nothing", []Frame{at(0, hold), at(50, plain), at(90, use(vmac))}, nil, false, "90ms"},
		{"the opening beat is seen a moment late", []Frame{at(0, use(vmac)), at(5, use(vmac))}, []Frame{at(4, hold)}, true, "2 frames"},
		{"never held", []Frame{at(50, use(vmac))}, nil, false, "before any holder beat"},
		{"frames to the station are not its own", []Frame{at(0, hold), out}, nil, true, "0 frames"},
		{"the shared MAC of another cluster", []Frame{at(0, hold), at(900, use(otherMAC))}, nil, true, "0 frames"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			traces := []Trace{{Port: "lan-a", Frames: tt.lan}, {Port: "wan-a", Frames: tt.wan}}
			expect(t, Lease("gw-a", traces, testCluster, k, 45*time.Millisecond, 5*time.Millisecond), tt.ok, tt.evidence)
		})
	}
}

func TestHoldingNeedsTheKey(t *testing.T) {
	other, err := wire.NewKey([]byte(strings.Repeat("x", 32)))
	if err != nil {
		t.Fatal(err)
	}
	if Holding(beatFrame(other, wire.Holder, nil), testKey(t)) {
		t.Error("a beat sealed with another key holds the gate")
	}
}

func TestExclusive(t *testing.T) {
	k := testKey(t)
	server := netip.MustParseAddrPort("192.0.2.254:7000")
	forwarded := ether.Datagram{Dst: ownMAC, Src: ownMAC, From: server, To: netip.MustParseAddrPort("10.1.0.10:4000"), TTL: 63}.Frame()
	const join = 45 * time.Millisecond
	for _, kind := range []struct {
		name  string
		check func([]Trace) Finding
		frame []byte
	}{
		{"shared MAC", func(tr []Trace) Finding { return DualMAC("lan", tr, testCluster, join) }, use(vmac)},
		{"forwarding", func(tr []Trace) Finding { return DualForward("lan", tr, join) }, forwarded},
		{"holder beats", func(tr []Trace) Finding { return DualHolder(tr, k, join) }, beatFrame(k, wire.Holder, nil)},
	} {
		f := func(ms ...int) (out []Frame) {
			for _, m := range ms {
				out = append(out, at(m, kind.frame), at(m, use(ownMAC)), at(m, beatFrame(k, 0, nil)))
			}
			return out
		}
		for _, tt := range []struct {
			name     string
			a, b     []Frame
			ok       bool
			evidence string
		}{
			{"one user", f(0, 10, 20), nil, true, "a (3 frames)"},
			{"a takeover", f(0, 10, 20), f(30, 40), true, "a (3 frames), 10ms later b (2 frames)"},
			{"there and back with pauses", f(0, 10, 200, 210), f(100, 110), true, "a (2 frames), 90ms later b (2 frames), 90ms later a (2 frames)"},
			{"interleaved", f(0, 20, 40), f(30, 50), false, "a and b at the same time for 10ms"},
			{"one stray frame of the old holder", f(0, 20, 40), f(30), false, "a and b"},
			{"nobody", nil, nil, false, "nobody"},
		} {
			t.Run(kind.name+"/"+tt.name, func(t *testing.T) {
				own := []netip.Addr{netip.MustParseAddr("10.1.0.2")}
				expect(t, kind.check([]Trace{{Port: "lan-a", Station: "a", Own: own, Frames: tt.a}, {Port: "lan-b", Station: "b", Own: own, Frames: tt.b}}), tt.ok, tt.evidence)
			})
		}
	}
}

func TestAnnouncements(t *testing.T) {
	request := ether.ARP{Op: 1, SenderMAC: vmac, SenderIP: vip, TargetIP: netip.MustParseAddr("10.1.0.9")}.Frame(vmac)
	forged := ether.ARP{Op: 1, SenderMAC: vmac, SenderIP: vip, TargetIP: vip}.Frame(ownMAC)
	traces := []Trace{
		{Port: "lan-b", Frames: []Frame{at(5, use(vmac)), at(20, use(vmac)), at(21, request), at(22, forged), at(23, use(ownMAC))}},
		{Port: "lan-a", Frames: []Frame{at(15, use(vmac))}},
	}
	got := Announcements(traces, testCluster, start.Add(10*time.Millisecond))
	if len(got) != 2 || got[0].Port != "lan-a" || got[1].Port != "lan-b" || got[1].VIP != vip || got[1].MAC != vmac {
		t.Errorf("announcements %+v", got)
	}
}
