package ccp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/twinkeep/twinkeep/ha/wire"
)

func TestRefusals(t *testing.T) {
	type edit = func(b []byte) []byte
	be := binary.BigEndian
	put16 := func(off int, v uint16) edit { return func(b []byte) []byte { be.PutUint16(b[off:], v); return b } }
	put32 := func(off int, v uint32) edit { return func(b []byte) []byte { be.PutUint32(b[off:], v); return b } }
	// offsets of the message, and of the trailer of a QueryState
	const m, tr = headLen, headLen
	state := goldens[0].message
	ifconf := goldens[7].message
	cases := []struct {
		name    string
		message Message
		edit    edit // before the tag is made
		want    Reason
	}{
		{"other magic", QueryState{}, put16(0, 0x1A91), NotCCP},
		{"heartbeat's magic", QueryState{}, put16(0, wire.Magic), NotCCP},
		{"ClusterXL R77.30", QueryState{}, put16(2, 2921), ForeignCCP},
		{"ClusterXL 4.1", QueryState{}, put16(2, 1), ForeignCCP},
		{"cluster 0", QueryState{}, put16(4, 0), wire.Malformed},
		{"cluster 256", QueryState{}, put16(4, 256), wire.Malformed},
		{"opcode 0", QueryState{}, put16(6, 0), UnknownOpcode},
		{"opcode 11", QueryState{}, put16(6, 11), UnknownOpcode},
		{"opcode 258", QueryState{}, put16(6, 258), UnknownOpcode},
		{"interface 256", QueryState{}, put16(8, 256), wire.Malformed},
		{"source 0", QueryState{}, put16(12, 0), wire.Malformed},
		{"source 9", QueryState{}, put16(12, 9), wire.Malformed},
		{"destination 9", QueryState{}, put16(14, 9), wire.Malformed},
		{"filler", QueryState{}, put16(18, 1), wire.Malformed},

		{"9 members", state, put16(m, 9), wire.Oversized},
		{"65535 members", state, put16(m, 65535), wire.Oversized},
		{"9 states appended", MyState{States: make([]State, 9)}, nil, wire.Oversized},
		{"a member too many", MyState{States: make([]State, 2)}, put16(m, 3), wire.Malformed}, // the trailer's magic is read as a state
		{"a member too few", state, put16(m, 4), wire.Malformed},
		{"members, but no report", state, put16(m+2, 0), wire.Malformed},
		{"states of nobody", MyState{}, put16(m+2, 1), wire.Malformed},
		{"unknown report bit", state, put16(m+2, 7), wire.Malformed},
		{"unknown mode", state, put16(m+4, 5), wire.Malformed},
		{"unknown state", state, func(b []byte) []byte { b[m+8] = 5; return b }, wire.Malformed},
		{"128 interfaces", state, func(b []byte) []byte { b[m+13] = 128; return b }, wire.Malformed},
		{"seen 128 units ago", state, func(b []byte) []byte { b[m+17] = 128; return b }, wire.Malformed},
		{"members beyond the end", MyState{}, func(b []byte) []byte {
			put16(m, 8)(b)
			put16(m+2, 1)(b)
			return b[:m+8+7]
		}, wire.Truncated},

		{"probe of interface 256", IfProbeReq{}, put32(m, 256), wire.Malformed},
		{"2 interfaces", ifconf, put32(m, 2), wire.Oversized},
		{"4294967295 interfaces", ifconf, put32(m, ^uint32(0)), wire.Oversized},
		{"no interface", ifconf, put32(m, 0), wire.Malformed},
		{"trusted 2", ifconf, put16(m+10, 2), wire.Malformed},
		{"slot 256", LBConf{}, put16(m, 256), wire.Malformed},
		{"machine 9", LBConfirm{}, put16(m+2, 9), wire.Malformed},
		{"513 buckets", LBConf{Hash: make([]uint8, 513)}, nil, wire.Oversized},
		{"4294967295 buckets", LBConf{}, put32(m+8, ^uint32(0)), wire.Oversized},
		{"2147483648 buckets", LBConf{}, put32(m+8, 1<<31), wire.Oversized},
		{"buckets beyond the end", LBConf{}, put32(m+8, 512), wire.Truncated},
		{"policy status 0", PolicyChange{}, nil, wire.Malformed},
		{"policy status 4", PolicyChange{Status: 4}, nil, wire.Malformed},
		{"too much to sync", Sync{Data: make([]byte, MaxSync+1)}, nil, wire.Oversized},
		{"65535 bytes to sync", Sync{}, put16(m, 65535), wire.Oversized},
		{"data beyond the end", Sync{}, put16(m, 900), wire.Truncated},

		{"trailer's magic", QueryState{}, put16(tr, 0x5442), wire.Malformed},
		{"trailer's length 0", QueryState{}, put16(tr+2, 0), wire.Malformed},
		{"trailer's length 37", QueryState{}, put16(tr+2, 37), wire.Malformed},
		{"trailer's length 39", QueryState{}, put16(tr+2, 39), wire.Truncated},
		{"trailer's length 65535", QueryState{}, put16(tr+2, 65535), wire.Truncated},
		{"longer than its lengths", QueryState{}, func(b []byte) []byte { return append(b, 0) }, wire.Oversized},
		{"extension area of 513", QueryState{}, func(b []byte) []byte {
			return put16(tr+2, trailerLen+513+TagLen)(append(b, make([]byte, 513)...))
		}, wire.Oversized},
		{"version 0", QueryState{}, put16(tr+4, 0), wire.Malformed},
		{"no message", IfProbeReq{}, func(b []byte) []byte { return append(b[:m], b[m+4:]...) }, wire.Malformed},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := packet(c.message)
			b := p.Append(nil)
			if c.edit != nil {
				b = c.edit(b)
			}
			if _, err := Parse(b); !errors.Is(err, c.want) {
				t.Errorf("Parse: %v, want %v", err, c.want)
			}
			if _, err := decode(key(t), AppendFrame(nil, sampleEnvelope, key(t).Seal(b))); !errors.Is(err, c.want) {
				t.Errorf("decode: %v, want %v", err, c.want)
			}
		})
	}
}

func TestFrameRefusals(t *testing.T) {
	good := AppendFrame(nil, sampleEnvelope, seal(t, QueryState{}))
	change := func(f func(b []byte)) []byte { b := bytes.Clone(good); f(b); return b }
	cases := []struct {
		name  string
		frame []byte
		want  Reason
	}{
		{"empty", nil, wire.Truncated},
		{"TTL 254", change(func(b []byte) { b[22] = 254 }), wire.TTLTooLow},
		{"TTL 1", change(func(b []byte) { b[22] = 1 }), wire.TTLTooLow},
		{"TTL 0", change(func(b []byte) { b[22] = 0 }), wire.TTLTooLow},
		{"not UDP", change(func(b []byte) { b[23] = 6 }), NotCCP},
		{"other source port", change(func(b []byte) { b[35]++ }), NotCCP},
		{"other destination port", change(func(b []byte) { b[37]++ }), NotCCP},
		{"IP options", change(func(b []byte) { b[14] = 0x46 }), NotCCP},
		{"fragment", change(func(b []byte) { b[20] |= 0x20 }), NotCCP},
		{"fragment's tail", change(func(b []byte) { b[21] = 1 }), NotCCP},
		{"IPv6", change(func(b []byte) { b[12], b[13] = 0x86, 0xdd }), NotCCP},
		{"lengths disagree", change(func(b []byte) { b[39]++ }), wire.Malformed},
		{"UDP length 0", change(func(b []byte) { b[16], b[17], b[38], b[39] = 0, 20, 0, 0 }), wire.Malformed},
		{"oversized", AppendFrame(nil, sampleEnvelope, make([]byte, MaxPayload+1)), wire.Oversized},
		{"no payload", AppendFrame(nil, sampleEnvelope, nil), wire.Truncated},
		{"magic and version only", AppendFrame(nil, sampleEnvelope, []byte{0x1A, 0x90, 0xFD, 0xE9}), wire.Truncated},
		{"a short packet of ClusterXL", AppendFrame(nil, sampleEnvelope, unhex(t, "1a90 0b69 0001 0002 0001 0000 0000 fffe 0000 0000")), ForeignCCP},
		{"a heartbeat's frame", wire.AppendFrame(nil, wire.Envelope{SrcIP: sampleEnvelope.SrcIP, DstIP: group}, seal(t, QueryState{})), NotCCP},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := decode(key(t), c.frame); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestTruncated cuts every message at every byte: the frame, the signed payload, and what the tag covers.
func TestTruncated(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			p := packet(g.message)
			p.Extension = []byte("x")
			b := p.Append(nil)
			payload := key(t).Seal(bytes.Clone(b))
			frame := AppendFrame(nil, sampleEnvelope, payload)
			for n := range frame {
				if _, err := decode(key(t), frame[:n]); !errors.Is(err, wire.Truncated) {
					t.Errorf("frame cut to %d bytes: %v", n, err)
				}
			}
			for n := range payload {
				want := wire.BadTag
				if n < minPayload {
					want = wire.Truncated
				}
				if _, err := open(key(t), payload[:n]); !errors.Is(err, want) {
					t.Errorf("payload cut to %d bytes: %v, want %v", n, err, want)
				}
			}
			for n := range b {
				if _, err := Parse(b[:n]); !errors.Is(err, wire.Truncated) {
					t.Errorf("cut to %d bytes: %v", n, err)
				}
			}
		})
	}
}

// TestAltered turns every bit of a signed packet.
func TestAltered(t *testing.T) {
	good := seal(t, goldens[0].message)
	for i := range 8 * len(good) {
		b := bytes.Clone(good)
		b[i/8] ^= 1 << (i % 8)
		want := wire.BadTag
		switch {
		case i/8 < 2:
			want = NotCCP
		case i/8 < 4:
			want = ForeignCCP
		}
		if _, err := open(key(t), b); !errors.Is(err, want) {
			t.Errorf("bit %d: %v, want %v", i, err, want)
		}
	}
}

func TestOtherKey(t *testing.T) {
	other, err := NewKey(bytes.Repeat([]byte{1}, wire.KeyLen))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(other, seal(t, QueryState{})); !errors.Is(err, wire.BadTag) {
		t.Errorf("got %v, want %v", err, wire.BadTag)
	}
	for _, n := range []int{0, 31, 33} {
		if _, err := NewKey(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes was taken", n)
		}
	}
}

// TestNotHeartbeat: with the same cluster key, no protocol accepts what the other signed.
func TestNotHeartbeat(t *testing.T) {
	beats, err := wire.NewKey(testKey)
	if err != nil {
		t.Fatal(err)
	}
	p := packet(QueryState{})
	if _, err := key(t).Open(beats.Seal(p.Append(nil))); !errors.Is(err, wire.BadTag) {
		t.Errorf("CCP signed as a heartbeat: %v", err)
	}
	if _, err := beats.Open(key(t).Seal(p.Append(nil))); !errors.Is(err, wire.BadTag) {
		t.Errorf("heartbeat signed as CCP: %v", err)
	}
}
