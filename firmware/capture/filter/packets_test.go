package filter

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
)

// What the packets of the tests are about.
var (
	hosts4 = []string{"10.1.0.1", "10.1.0.5", "10.2.0.2", "192.0.2.7", "224.0.0.18", "255.255.255.255"}
	hosts6 = []string{"2001:db8::1", "2001:db8:0:1::5", "fe80::1", "ff02::1"}
	macs   = [][]byte{{0x10, 0, 0, 0, 5, 7}, {0x11, 0, 0, 0, 5, 7}, {2, 0, 0, 0, 0, 1}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	ports  = []uint16{22, 53, 80, 443, 999, 8116, 51234}
	protos = []byte{1, 2, 9, 6, 6, 17, 17, 47, 50, 51, 58, 89, 103, 112, 132}
)

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// somePacket is a frame of any kind that a gateway sees.
func somePacket(r *rand.Rand) []byte {
	f := append(append([]byte{}, pick(r, macs)...), pick(r, macs)...)
	for range pick(r, []int{0, 0, 0, 1, 2}) {
		f = append(f, pick(r, [][]byte{{0x81, 0}, {0x88, 0xa8}, {0x91, 0}})...)
		f = append(f, byte(r.IntN(2)<<5), pick(r, []byte{5, 6, 7}))
	}
	switch r.IntN(8) {
	case 0:
		return append(append(f, 0x08, byte(pick(r, []int{6, 6}))), someARP(r)...)
	case 1:
		return append(append(f, 0x80, 0x35), someARP(r)...)
	case 2:
		f = append(f, pick(r, [][]byte{{0x88, 0xcc}, {0, 60}, {0x88, 0x64}})...)
		return append(f, make([]byte, 50)...)
	case 3, 4:
		return append(append(f, 0x86, 0xdd), someIP6(r)...)
	}
	return append(append(f, 8, 0), someIP4(r)...)
}

func someARP(r *rand.Rand) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, byte(1 + r.IntN(2))}
	for range 2 {
		b = append(b, pick(r, macs)...)
		a := netip.MustParseAddr(pick(r, hosts4)).As4()
		b = append(b, a[:]...)
	}
	return append(b, make([]byte, 18)...)
}

func someIP4(r *rand.Rand) []byte {
	options := pick(r, []int{0, 0, 0, 4, 12})
	body := someBody(r)
	h := []byte{0x45 + byte(options/4), 0}
	h = binary.BigEndian.AppendUint16(h, uint16(20+options+len(body)))
	h = append(h, 0, 1, pick(r, []byte{0, 0, 0x40, 0x20, 0x20}), pick(r, []byte{0, 0, 0, 9}), pick(r, []byte{255, 64}), pick(r, protos), 0, 0)
	for range 2 {
		a := netip.MustParseAddr(pick(r, hosts4)).As4()
		h = append(h, a[:]...)
	}
	return append(append(h, make([]byte, options)...), body...)
}

func someIP6(r *rand.Rand) []byte {
	body := someBody(r)
	next := pick(r, protos)
	if r.IntN(6) == 0 {
		body, next = append([]byte{next, 0, 0, 0, 0, 0, 0, 1}, body...), 44
	}
	h := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(body)))
	h = append(h, next, 64)
	for range 2 {
		a := netip.MustParseAddr(pick(r, hosts6)).As16()
		h = append(h, a[:]...)
	}
	return append(h, body...)
}

// someBody is ports, or type and code, and 40 bytes more, so that no filter reads behind its end.
func someBody(r *rand.Rand) []byte {
	b := binary.BigEndian.AppendUint16(nil, pick(r, ports))
	b = binary.BigEndian.AppendUint16(b, pick(r, ports))
	if r.IntN(3) == 0 {
		b[0], b[1] = pick(r, []byte{0, 3, 8, 128, 135}), byte(r.IntN(3))
	}
	rest := make([]byte, 40+r.IntN(30))
	for i := range rest {
		rest[i] = byte(r.Uint32())
	}
	rest[9] = pick(r, []byte{2, 4, 16, 17, 18, 24, 20}) // flags of TCP
	return append(b, rest...)
}
