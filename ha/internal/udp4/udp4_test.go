package udp4

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
)

var sample = Envelope{Dst: [6]byte{2, 0, 0, 0, 0, 1}, Src: [6]byte{2, 0, 0, 0, 0, 2},
	SrcIP: netip.MustParseAddr("10.1.0.3"), DstIP: netip.MustParseAddr("10.1.0.4")}

func TestRoundTrip(t *testing.T) {
	for n := range 300 { // odd and even lengths, many sums
		payload := bytes.Repeat([]byte{byte(n), 0xff}, n)[:n]
		frame := Append([]byte("before"), sample, 8116, payload)[6:]
		if ip, udp := ChecksumsValid(frame); !ip || !udp {
			t.Fatalf("%d bytes: IP checksum right %v, UDP checksum right %v", n, ip, udp)
		}
		e, p, err := Parse(append(frame, 0, 0), 8116)
		if err != nil || e != sample || !bytes.Equal(p, payload) {
			t.Fatalf("%d bytes: %+v, %x, %v", n, e, p, err)
		}
		frame[len(frame)-1-n%8] ^= 1
		if ip, udp := ChecksumsValid(frame[:OffsetPayload+n]); ip && udp {
			t.Fatalf("%d bytes: a wrong checksum is right", n)
		}
	}
}

// TestZeroChecksum: a sum of zero is sent as all ones, because zero would mean "no checksum" (RFC 768).
func TestZeroChecksum(t *testing.T) {
	frame := Append(nil, sample, 8116, []byte{0, 0})
	sum := frame[OffsetUDPSum : OffsetUDPSum+2]
	frame = Append(nil, sample, 8116, bytes.Clone(sum)) // brings the sum to zero
	if got := frame[OffsetUDPSum : OffsetUDPSum+2]; !bytes.Equal(got, []byte{0xff, 0xff}) {
		t.Errorf("checksum %x", got)
	}
	if _, udp := ChecksumsValid(frame); !udp {
		t.Error("all ones is wrong")
	}
}

func TestRefusals(t *testing.T) {
	good := Append(nil, sample, 8116, []byte("payload"))
	change := func(f func(b []byte)) []byte { b := bytes.Clone(good); f(b); return b }
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"TTL 254":           {change(func(b []byte) { b[22] = 254 }), ErrTTL},
		"TCP":               {change(func(b []byte) { b[23] = 6 }), ErrOther},
		"source port":       {change(func(b []byte) { b[35]++ }), ErrOther},
		"destination port":  {change(func(b []byte) { b[37]++ }), ErrOther},
		"options":           {change(func(b []byte) { b[14]++ }), ErrOther},
		"more fragments":    {change(func(b []byte) { b[20] |= 0x20 }), ErrOther},
		"ARP":               {change(func(b []byte) { b[13] = 6 }), ErrOther},
		"UDP length":        {change(func(b []byte) { b[39]++ }), ErrMalformed},
		"UDP length 0":      {change(func(b []byte) { b[16], b[17], b[38], b[39] = 0, 20, 0, 0 }), ErrMalformed},
		"length beyond end": {change(func(b []byte) { b[17]++; b[39]++ }), ErrTruncated},
	} {
		if _, _, err := Parse(c.frame, 8116); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for n := range good {
		if _, _, err := Parse(good[:n], 8116); !errors.Is(err, ErrTruncated) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
		if ip, udp := ChecksumsValid(good[:n]); ip || udp {
			t.Errorf("cut to %d bytes: checksums right", n)
		}
	}
}
