package vip

import (
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/ndp"

	"github.com/twinkeep/twinkeep/ha/wire"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.ReplaceAll(s, " ", ""), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAnnouncementBytes: RFC 826 fields by hand.
func TestAnnouncementBytes(t *testing.T) {
	frames, err := Announcement(wire.SharedMAC(0x0c, 7), []netip.Addr{netip.MustParseAddr("10.1.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]byte{
		unhex(t, `ffffffffffff 100000000c07 0806 0001 0800 06 04 0001 100000000c07 0a010001 000000000000 0a010001`),
		unhex(t, `ffffffffffff 100000000c07 0806 0001 0800 06 04 0002 100000000c07 0a010001 ffffffffffff 0a010001`),
	}
	for i := range want { // frames are padded to the Ethernet minimum
		if i < len(frames) && len(frames[i]) > len(want[i]) {
			want[i] = append(want[i], make([]byte, len(frames[i])-len(want[i]))...)
		}
	}
	if diff := cmp.Diff(want, frames); diff != "" {
		t.Error(diff)
	}
}

func TestUnsolicitedNeighbourAdvertisement(t *testing.T) {
	vip := netip.MustParseAddr("2001:db8:1::1")
	frames, err := Announcement(wire.SharedMAC(0x0c, 7), []netip.Addr{vip})
	if err != nil || len(frames) != 1 {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	f := frames[0]
	head := unhex(t, `333300000001 100000000c07 86dd 60000000 0020 3a ff 20010db8000100000000000000000001 ff020000000000000000000000000001`)
	if diff := cmp.Diff(head, f[:len(head)]); diff != "" {
		t.Errorf("headers: %s", diff)
	}
	m, err := ndp.ParseMessage(f[len(head):])
	if err != nil {
		t.Fatal(err)
	}
	want := &ndp.NeighborAdvertisement{Router: true, Override: true, TargetAddress: vip,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: net.HardwareAddr{0x10, 0, 0, 0, 0x0c, 7}}}}
	if diff := cmp.Diff(want, m, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}
