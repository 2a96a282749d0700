package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var testKey = []byte("0123456789abcdef0123456789abcdef")

func key(t testing.TB) *Key {
	t.Helper()
	k, err := NewKey(testKey)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var sample = Beat{
	Version: 1, Flags: Holder | InSync, Cluster: 7, Member: 2, State: Active, Interface: 3,
	Nonce: 0x0102030405060708, Seq: 0x1112131415161718, Term: 9, Demotion: 16, Priority: 120, NN: 0x15,
	Connections: 1000, Serial: 77, StateDigest: 0xd1, PolicyRevision: 5, PolicyDigest: 0xd2, Order: Keep, Successor: 3,
	Heard: []Heard{{Member: 1, Nonce: 0xaa, Seq: 0xbb}},
}

var sampleEnvelope = Envelope{
	Dst: BeatMAC(0x15, 7), Src: MAC{0x52, 0x54, 0, 0, 0, 1},
	SrcIP: netip.MustParseAddr("10.1.0.3"), DstIP: netip.MustParseAddr("10.1.0.255"),
}

// golden is sample as a frame, by hand from the layout in doc.go. Its tag was computed with another HKDF and HMAC
// implementation (Python hmac).
const golden = `
110000001507 525400000001 0800
45c0 008c 0000 4000 ff11 23f8 0a010003 0a0100ff
03e7 03e7 0078 SUM_
544b 01 05 07 02 04 03
0102030405060708 1112131415161718 0000000000000009
0010 78 15 000003e8 000000000000004d 00000000000000d1 0000000000000005 00000000000000d2
01 01 03 00 0000
01 00 00000000000000aa 00000000000000bb
`

func goldenFrame(t *testing.T) []byte {
	t.Helper()
	s := strings.NewReplacer(" ", "", "\n", "", "SUM_", "0000").Replace(golden)
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenBytes(t *testing.T) {
	k := key(t)
	got := AppendFrame(nil, sampleEnvelope, k.Seal(sample.Append(nil)))
	want := goldenFrame(t)
	// Everything but the checksums and the tag is fixed by the layout.
	g := bytes.Clone(got[:len(got)-TagLen])
	for _, b := range [][]byte{g, want} {
		copy(b[24:26], "..")
		copy(b[40:42], "..")
	}
	if !bytes.Equal(g, want) {
		t.Errorf("frame\n%s\nwant\n%s", hex.Dump(g), hex.Dump(want))
	}
	if tag := hex.EncodeToString(got[len(got)-TagLen:]); tag != "87879c8397c083bb55a1e289f3569a94" {
		t.Errorf("tag %s", tag)
	}
}

func TestChecksums(t *testing.T) {
	for _, valid := range []bool{false, true} {
		for n := range 40 { // odd and even lengths, many sums
			e := sampleEnvelope
			e.ValidChecksums = valid
			b := sample
			b.Seq = uint64(n)
			b.Extension = make([]byte, n)
			ip, udp := ChecksumsValid(AppendFrame(nil, e, key(t).Seal(b.Append(nil))))
			if ip != valid || udp != valid {
				t.Fatalf("valid=%v n=%d: IP checksum right %v, UDP checksum right %v", valid, n, ip, udp)
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	beats := map[string]Beat{
		"sample":  sample,
		"no peer": {Version: 1, Cluster: 1, Member: 1, State: Init},
		"full": {Version: 200, Flags: 0xff, Cluster: 255, Member: 8, State: Down, Seq: FinalSeq, Demotion: Ineligible, Order: Drain,
			Heard: make([]Heard, MaxHeard), Extension: bytes.Repeat([]byte{1, 2}, MaxExtension/2)},
	}
	for name, b := range beats {
		t.Run(name, func(t *testing.T) {
			k := key(t)
			e, payload, err := ParseFrame(append(AppendFrame(nil, sampleEnvelope, k.Seal(b.Append(nil))), 0, 0, 0)) // padding
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(sampleEnvelope, e, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("envelope: %s", diff)
			}
			if payload, err = k.Open(payload); err != nil {
				t.Fatal(err)
			}
			got, err := ParseBeat(payload)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(b, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestNewerVersion: what version N+1 appends, version N skips.
func TestNewerVersion(t *testing.T) {
	b := sample
	b.Version, b.Extension = 2, []byte("fields of the future")
	got, err := ParseBeat(b.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if got.Term != b.Term || got.Version != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestRefusals(t *testing.T) {
	good := AppendFrame(nil, sampleEnvelope, key(t).Seal(sample.Append(nil)))
	change := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	seal := func(b Beat) []byte { return AppendFrame(nil, sampleEnvelope, key(t).Seal(b.Append(nil))) }
	bad := sample
	bad.Member = MaxID + 1
	term := sample
	term.Term = MaxTerm + 1
	order := sample
	order.Order = 9
	cases := []struct {
		name  string
		frame []byte
		want  Reason
	}{
		{"empty", nil, Truncated},
		{"header only", good[:OffsetPayload], Truncated},
		{"cut in the payload", good[:len(good)-1], Truncated},
		{"TTL 254", change(func(b []byte) []byte { b[22] = 254; return b }), TTLTooLow},
		{"TTL 0", change(func(b []byte) []byte { b[22] = 0; return b }), TTLTooLow},
		{"not UDP", change(func(b []byte) []byte { b[23] = 6; return b }), NotHeartbeat},
		{"other source port", change(func(b []byte) []byte { b[35]++; return b }), NotHeartbeat},
		{"other destination port", change(func(b []byte) []byte { b[37]++; return b }), NotHeartbeat},
		{"IP options", change(func(b []byte) []byte { b[14] = 0x46; return b }), NotHeartbeat},
		{"fragment", change(func(b []byte) []byte { b[20] |= 0x20; return b }), NotHeartbeat},
		{"IPv6", change(func(b []byte) []byte { b[12], b[13] = 0x86, 0xdd; return b }), NotHeartbeat},
		{"lengths disagree", change(func(b []byte) []byte { b[39]++; return b }), Malformed},
		{"UDP length 0", change(func(b []byte) []byte { b[16], b[17], b[38], b[39] = 0, 20, 0, 0; return b }), Malformed},
		{"flipped payload bit", change(func(b []byte) []byte { b[60] ^= 1; return b }), BadTag},
		{"flipped tag bit", change(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), BadTag},
		{"oversized", AppendFrame(nil, sampleEnvelope, make([]byte, MaxPayload+1)), Oversized},
		{"member 12", seal(bad), Malformed},
		{"unknown order", seal(order), Malformed},
		{"term beyond the highest", seal(term), Malformed},
		{"payload longer than its lengths", AppendFrame(nil, sampleEnvelope, key(t).Seal(append(sample.Append(nil), 0))), Oversized},
		{"payload shorter than its lengths", AppendFrame(nil, sampleEnvelope, key(t).Seal(sample.Append(nil)[:90])), Truncated},
		{"other magic", AppendFrame(nil, sampleEnvelope, key(t).Seal(append([]byte{0, 0}, sample.Append(nil)[2:]...))), NotHeartbeat},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := decode(key(t), c.frame)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestOtherKey(t *testing.T) {
	other, err := NewKey(bytes.Repeat([]byte{1}, KeyLen))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(other, AppendFrame(nil, sampleEnvelope, key(t).Seal(sample.Append(nil)))); !errors.Is(err, BadTag) {
		t.Errorf("got %v, want %v", err, BadTag)
	}
	if _, err := NewKey(testKey[:31]); err == nil {
		t.Error("a short key was taken")
	}
}

func decode(k *Key, frame []byte) (Beat, error) {
	_, p, err := ParseFrame(frame)
	if err != nil {
		return Beat{}, err
	}
	if p, err = k.Open(p); err != nil {
		return Beat{}, err
	}
	return ParseBeat(p)
}

// FuzzFrame: any bytes give a value or a Reason, never a panic.
func FuzzFrame(f *testing.F) {
	f.Add(AppendFrame(nil, sampleEnvelope, key(f).Seal(sample.Append(nil))))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, p, err := ParseFrame(b)
		var r Reason
		if err != nil && !errors.As(err, &r) {
			t.Fatalf("error %v is no Reason", err)
		}
		if err == nil && len(p) > MaxPayload {
			t.Fatalf("payload of %d bytes", len(p))
		}
	})
}

// FuzzBeat: what parses, appends to the same bytes again.
func FuzzBeat(f *testing.F) {
	f.Add(sample.Append(nil))
	b := sample
	b.Extension = []byte("x")
	f.Add(b.Append(nil))
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := ParseBeat(p)
		if err != nil {
			var r Reason
			if !errors.As(err, &r) {
				t.Fatalf("error %v is no Reason", err)
			}
			return
		}
		again := b.Append(nil)
		p[75] = 0 // reserved bytes are not kept
		for i := range b.Heard {
			p[headLen+i*heardLen+1] = 0
		}
		if !bytes.Equal(again, p) {
			t.Fatalf("parsed\n%x\nappended\n%x", p, again)
		}
	})
}
