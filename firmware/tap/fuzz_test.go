package tap

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

// FuzzPrograms holds the programs against the same in Go, for any frame and any list of addresses.
func FuzzPrograms(f *testing.F) {
	f.Add(frame(shared, host, 0x0800, far4, vip4, 0), uint8(3))
	f.Add(frame(all, host, 0x0806, far4, vip4, 0), uint8(0))
	f.Add(frame(ownMAC, host, 0x86dd, vip6, far6, 135), uint8(70))
	f.Fuzz(func(t *testing.T, data []byte, more uint8) {
		if len(data) < 60 {
			return
		}
		vips := []netip.Addr{vip4, vip6}
		a := netip.AddrFrom4([4]byte(data[30:34]))
		for range more {
			a = a.Next()
			if a.IsValid() {
				vips = append(vips, a)
			}
		}
		if got, want := takes(t, data, vips...), reference(data, vips); !slices.Equal(got, want) {
			t.Fatalf("%x with %v: %v, want %v", data, vips, got, want)
		}
	})
}

// reference is what takes should say of a frame of 60 bytes or more, to this member's own address if to any.
func reference(f []byte, vips []netip.Addr) (kinds []kind) {
	etherType := binary.BigEndian.Uint16(f[12:])
	to, from := bytes.Equal(f[:6], shared), bytes.Equal(f[6:12], shared)
	has := func(offset, length int) bool {
		a, ok := netip.AddrFromSlice(f[offset : offset+length])
		return ok && slices.Contains(vips, a)
	}
	var source, target bool
	nd := false
	switch etherType {
	case 0x0800:
		source, target = has(26, 4), has(30, 4)
	case 0x0806:
		source, target = has(28, 4), has(38, 4)
	case 0x86dd:
		source, target = has(22, 16), has(38, 16)
		nd = f[20] == 58 && f[54] >= 133 && f[54] <= 137
	}
	if etherType == 0x0806 || f[0]&1 == 1 || nd {
		if to || from || source || target {
			return []kind{neighbour}
		}
		return nil
	}
	if to || target {
		kinds = append(kinds, in)
	}
	if from || source {
		kinds = append(kinds, out)
	}
	return kinds
}
