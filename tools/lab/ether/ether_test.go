package ether

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	testA = MAC{0x52, 0x54, 0, 0, 1, 4}
	testB = MAC{0x11, 0, 0, 0, 0x15, 7}
)

func TestDatagramRoundTrip(t *testing.T) {
	base := Datagram{
		Dst: testB, Src: testA, TTL: 255, Payload: []byte("beat!"),
		From: netip.MustParseAddrPort("10.1.0.2:999"), To: netip.MustParseAddrPort("10.1.0.255:999"),
	}
	for _, tt := range []struct {
		name    string
		edit    func(*Datagram)
		ip, udp bool
	}{
		{"right checksums", func(*Datagram) {}, true, true},
		{"wrong IP checksum", func(d *Datagram) { d.WrongIP = true }, false, true},
		{"wrong UDP checksum", func(d *Datagram) { d.WrongUDP = true }, true, false},
		{"both wrong", func(d *Datagram) { d.WrongIP, d.WrongUDP = true, true }, false, false},
		{"odd and empty payload", func(d *Datagram) { d.Payload = nil }, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := base
			tt.edit(&d)
			u, ok := ParseUDP(d.Frame())
			if !ok {
				t.Fatal("frame was not recognised")
			}
			type view struct {
				Src, Dst string
				TTL      uint8
				Payload  string
				IP, UDP  bool
			}
			got := view{
				netip.AddrPortFrom(u.IP.Src, u.SrcPort).String(), netip.AddrPortFrom(u.IP.Dst, u.DstPort).String(),
				u.IP.TTL, string(u.Payload), u.IP.ChecksumOK, u.ChecksumOK,
			}
			want := view{"10.1.0.2:999", "10.1.0.255:999", 255, string(d.Payload), tt.ip, tt.udp}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if got := BadIPChecksum(d.Frame()); got == tt.ip {
				t.Errorf("BadIPChecksum = %v", got)
			}
		})
	}
}

func TestARP(t *testing.T) {
	vip := netip.MustParseAddr("10.1.0.1")
	want := ARP{Op: 1, SenderMAC: testA, SenderIP: vip, TargetIP: vip}
	got, ok := ParseARP(want.Frame(testA))
	if !ok || !got.Gratuitous() {
		t.Fatalf("ok %v, gratuitous %v", ok, got.Gratuitous())
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	want.TargetIP = netip.MustParseAddr("10.1.0.9")
	if got, _ := ParseARP(want.Frame(testA)); got.Gratuitous() {
		t.Error("an ordinary request counts as gratuitous")
	}
}

func TestPayloadBehindTags(t *testing.T) {
	tag := []byte{0x81, 0, 0, 5}
	for _, tt := range []struct {
		name string
		tags int
		want uint16
	}{{"untagged", 0, TypeIPv4}, {"one tag", 1, TypeIPv4}, {"two tags", 2, TypeIPv4}, {"three tags are too many", 3, 0}} {
		t.Run(tt.name, func(t *testing.T) {
			f := append([]byte{}, make([]byte, 12)...)
			for range tt.tags {
				f = append(f, tag...)
			}
			f = append(f, 8, 0, 1)
			if got, _ := Payload(f); got != tt.want {
				t.Errorf("EtherType %#x, want %#x", got, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Datagram{From: netip.MustParseAddrPort("1.2.3.4:5"), To: netip.MustParseAddrPort("1.2.3.4:5")}.Frame())
	f.Add(ARP{SenderIP: netip.MustParseAddr("1.2.3.4"), TargetIP: netip.MustParseAddr("1.2.3.4")}.Frame(testA))
	f.Fuzz(func(t *testing.T, b []byte) {
		Dst(b)
		Src(b)
		BadIPChecksum(b)
		ParseARP(b)
		if u, ok := ParseUDP(b); ok && len(u.Payload)+8 > len(u.IP.Payload) {
			t.Error("payload longer than the packet")
		}
	})
}
