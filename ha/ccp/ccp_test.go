package ccp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/ha/internal/udp4"
	"github.com/twinkeep/twinkeep/ha/wire"
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

// packet is m from member 2 to member 1 of cluster 7.
func packet(m Message) Packet {
	return Packet{Version: 1, Cluster: 7, Interface: 3, RandomID: 0xbeef, Source: 2, Destination: 1, PolicyID: 5, Message: m,
		Nonce: 0x0102030405060708, Seq: 0x1112131415161718}
}

func seal(t testing.TB, m Message) []byte {
	t.Helper()
	p := packet(m)
	return key(t).Seal(p.Append(nil))
}

var group = netip.MustParseAddr("239.255.0.7")

var sampleEnvelope = Envelope{
	Dst: GroupMAC(group), Src: wire.MAC{0x52, 0x54, 0, 0, 0, 1},
	SrcIP: netip.MustParseAddr("10.1.0.3"), DstIP: group,
}

// goldens has every opcode, by hand from the layout in doc.go. The tags were computed with another HKDF and HMAC
// implementation (Python hmac).
var goldens = []struct {
	name    string
	message Message
	opcode  string
	payload string
	tag     string
}{
	{"MY_STATE", MyState{Mode: ActiveUp, TimeUnit: 100, States: []State{Down, Initializing, Standby, Ready, Active},
		Interfaces: &InterfaceReport{InUp: 2, InAssumedUp: 1, OutUp: 3, OutAssumedUp: 1, LastSeen: []uint8{0, 1, 2, 3, Never}}},
		"0001", "0005 0003 0004 0064  00 01 02 03 04  02 01 03 01  00 01 02 03 7f", "c153f6ae3c7a8c3fa3e2b28d019845ef"},
	{"MY_STATE, states only", MyState{Mode: PrimaryUp, TimeUnit: 100, States: []State{Active, Standby}},
		"0001", "0002 0001 0003 0064  04 02", "7feb48f8f5ea99f131a7cc75c06f1dcc"},
	{"MY_STATE, interfaces only", MyState{Mode: ActiveUp, TimeUnit: 1000, Interfaces: &InterfaceReport{InUp: 1, OutUp: 1, LastSeen: []uint8{0, 5}}},
		"0001", "0002 0002 0004 03e8  01 00 01 00  00 05", "a2e233304e86d06cd01b672321950e45"},
	{"QUERY_STATE", QueryState{}, "0002", "", "3864ab4877e40ffde64d33b771905cbc"},
	{"IF_PROBE_REQ", IfProbeReq{Interface: 9}, "0003", "00000009", "d287b93844623d49571ea440f6548cc3"},
	{"IF_PROBE_REPLY", IfProbeReply{Interface: 9}, "0004", "00000009", "3b03f8462a6ba58a95b144bacda318dc"},
	{"IFCONF_REQ", IfConfReq{}, "0005", "", "377a339f2a026b490083955e13846f7b"},
	{"IFCONF_REPLY", IfConfReply{MAC: wire.MAC{0x52, 0x54, 0, 0, 0, 1}, Trusted: true, Addr: netip.MustParseAddr("10.1.0.3")},
		"0006", "00000001 525400000001 0001 0a010003", "37d548a4d32dd9d9369339a246a16502"},
	{"LB_CONF", LBConf{Slot: 4, Machine: 2, Seed: 0x12345678, Hash: []uint8{1, 2, 1}},
		"0007", "0004 0002 12345678 00000003 01 02 01", "73037d7139b13e81ea41e7db7930f348"},
	{"LB_CONFIRM", LBConfirm{Slot: 4, Machine: 2, Seed: 0x12345678}, "0008", "0004 0002 12345678", "b9328f58e6c22f14eee3bc4b69727fdd"},
	{"POLICY_CHANGE", PolicyChange{Status: ReadyToChange}, "0009", "00000003", "db44d95f946661ea0ec7c58ca5b7f65c"},
	{"SYNC", Sync{Data: []byte("hello")}, "000a", "0005 68656c6c6f", "18d6410b2ca2394f68a1e72ecd6e0796"},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "", "\t", "").Replace(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGoldenBytes(t *testing.T) {
	for _, g := range goldens {
		t.Run(g.name, func(t *testing.T) {
			want := unhex(t, "1a90 fde9 0007"+g.opcode+"0003 beef 0002 0001 0005 0000"+
				g.payload+"5443 0026 0001 0102030405060708 1112131415161718"+g.tag)
			if got := seal(t, g.message); !bytes.Equal(got, want) {
				t.Errorf("packet\n%s\nwant\n%s", hex.Dump(got), hex.Dump(want))
			}
			got, err := open(key(t), want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(packet(g.message), got, sameAddr); diff != "" {
				t.Error(diff)
			}
			if name, _, _ := strings.Cut(g.name, ","); got.Message.Opcode().String() != name {
				t.Errorf("opcode %s", got.Message.Opcode())
			}
		})
	}
}

// TestGoldenFrame has right checksums, computed by hand.
func TestGoldenFrame(t *testing.T) {
	want := unhex(t, `
01005e7f0007 525400000001 0800
45c0 0056 0000 4000 ff11 80cc 0a010003 efff0007
1fb4 1fb4 0042 e5c6
1a90 fde9 0007 0002 0003 beef 0002 0001 0005 0000
5443 0026 0001 0102030405060708 1112131415161718 3864ab4877e40ffde64d33b771905cbc`)
	got := AppendFrame([]byte("x"), sampleEnvelope, seal(t, QueryState{}))[1:]
	if !bytes.Equal(got, want) {
		t.Errorf("frame\n%s\nwant\n%s", hex.Dump(got), hex.Dump(want))
	}
}

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func open(k *Key, payload []byte) (Packet, error) {
	b, err := k.Open(payload)
	if err != nil {
		return Packet{}, err
	}
	return Parse(b)
}

func decode(k *Key, frame []byte) (Packet, error) {
	_, p, err := ParseFrame(frame)
	if err != nil {
		return Packet{}, err
	}
	return open(k, p)
}

func TestRoundTrip(t *testing.T) {
	full := Packet{Version: 65535, Cluster: 255, Interface: 255, RandomID: 65535, Source: MaxMembers, Destination: Everyone, PolicyID: 65535,
		Nonce: ^uint64(0), Seq: ^uint64(0), Extension: bytes.Repeat([]byte{1, 2}, MaxExtension/2)}
	messages := map[string]Message{
		"state of 8":         MyState{Mode: Balance, TimeUnit: 65535, States: make([]State, MaxMembers), Interfaces: &InterfaceReport{InUp: 127, LastSeen: bytes.Repeat([]byte{Never}, MaxMembers)}},
		"nothing to report":  MyState{},
		"interfaces, nobody": MyState{Interfaces: &InterfaceReport{OutAssumedUp: 1}},
		"probe":              IfProbeReq{Interface: 255},
		"unset address":      IfConfReply{Addr: netip.IPv4Unspecified()},
		"no buckets":         LBConf{Slot: 255, Machine: MaxMembers, Seed: ^uint32(0)},
		"all buckets":        LBConf{Hash: bytes.Repeat([]byte{8}, MaxHash)},
		"no data":            Sync{},
		"longest":            Sync{Data: bytes.Repeat([]byte{7}, MaxSync)},
	}
	for _, g := range goldens {
		messages[g.name] = g.message
	}
	unicast := sampleEnvelope
	unicast.Dst, unicast.DstIP = wire.MAC{0x52, 0x54, 0, 0, 0, 2}, netip.MustParseAddr("10.1.0.4")
	for name, m := range messages {
		t.Run(name, func(t *testing.T) {
			for _, want := range []Envelope{sampleEnvelope, unicast} {
				p, k := full, key(t)
				p.Message = m
				frame := AppendFrame(nil, want, k.Seal(p.Append(nil)))
				if ip, udp := udp4.ChecksumsValid(frame); !ip || !udp {
					t.Errorf("IP checksum right %v, UDP checksum right %v", ip, udp)
				}
				e, payload, err := ParseFrame(append(frame, 0, 0, 0)) // padding
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, e, sameAddr); diff != "" {
					t.Errorf("envelope: %s", diff)
				}
				got, err := open(k, payload)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(p, got, sameAddr); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
	if len(AppendFrame(nil, unicast, make([]byte, MaxPayload))) != MaxFrame || MaxSync != 900 {
		t.Errorf("MaxFrame %d, MaxSync %d", MaxFrame, MaxSync)
	}
}

// TestNoAlias: a caller may reuse its receive buffer.
func TestNoAlias(t *testing.T) {
	for _, g := range goldens {
		p := packet(g.message)
		p.Extension = []byte("later")
		b := p.Append(nil)
		got, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			b[i] = 0xff
		}
		if diff := cmp.Diff(p, got, sameAddr); diff != "" {
			t.Errorf("%s: %s", g.name, diff)
		}
	}
}

// TestUnequalLists: what a MyState does not say of a member is "down, never heard"; long ago is "never".
func TestUnequalLists(t *testing.T) {
	for _, c := range []struct{ in, want MyState }{
		{MyState{States: []State{Active}, Interfaces: &InterfaceReport{LastSeen: []uint8{0, 255}}},
			MyState{States: []State{Active, Down}, Interfaces: &InterfaceReport{LastSeen: []uint8{0, Never}}}},
		{MyState{States: []State{Active, Ready}, Interfaces: &InterfaceReport{}},
			MyState{States: []State{Active, Ready}, Interfaces: &InterfaceReport{LastSeen: []uint8{Never, Never}}}},
	} {
		got, err := open(key(t), seal(t, c.in))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Message(c.want), got.Message); diff != "" {
			t.Error(diff)
		}
	}
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("2001:db8::1")} {
		got, err := open(key(t), seal(t, IfConfReply{Addr: a}))
		if want := (IfConfReply{Addr: netip.IPv4Unspecified()}); err != nil || got.Message != Message(want) {
			t.Errorf("%v became %v (%v)", a, got.Message, err)
		}
	}
}

// TestNewerVersion: what version N+1 appends, version N skips. The tag covers it (by hand, as in goldens).
func TestNewerVersion(t *testing.T) {
	got, err := open(key(t), unhex(t, `1a90 fde9 0007 0002 0003 beef 0002 0001 0005 0000
		5443 0029 0002 0102030405060708 1112131415161718 616263 54f0709dbdb2013088701b1a8ac80aba`))
	if err != nil {
		t.Fatal(err)
	}
	want := packet(QueryState{})
	want.Version, want.Extension = 2, []byte("abc")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestStateOf(t *testing.T) {
	for from, want := range map[wire.State]State{wire.Init: Initializing, wire.Ready: Ready, wire.Standby: Standby, wire.Active: Active,
		wire.ActiveAttention: Active, wire.Down: Down, wire.Lost: Down, 0: Down, 99: Down} {
		if got := StateOf(from); got != want {
			t.Errorf("%v is %v, want %v", from, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		OpSync.String(): "SYNC", Opcode(0).String(): "OPCODE(0)", Opcode(11).String(): "OPCODE(11)",
		Active.String(): "ACTIVE", State(9).String(): "STATE(9)", PrimaryUp.String(): "primary-up", Mode(9).String(): "mode(9)",
		ReadyToChange.String(): "ready-to-change", PolicyStatus(0).String(): "status(0)",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

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

// FuzzFrame: any bytes give a value or a Reason, never a panic; what parses, appends to an equal frame again.
func FuzzFrame(f *testing.F) {
	for _, g := range goldens {
		f.Add(AppendFrame(nil, sampleEnvelope, seal(f, g.message)))
	}
	k := key(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, p, err := ParseFrame(b)
		if err != nil {
			isReason(t, err)
			return
		}
		if len(p) > MaxPayload {
			t.Fatalf("payload of %d bytes", len(p))
		}
		e2, p2, err := ParseFrame(AppendFrame(nil, e, p))
		if err != nil || e2 != e || !bytes.Equal(p2, p) {
			t.Fatalf("again: %v, %+v, %x; first %+v, %x", err, e2, p2, e, p)
		}
		if _, err := open(k, p); err != nil {
			isReason(t, err)
		}
	})
}

// FuzzPacket: any bytes give a value or a Reason, never a panic; what parses, appends to the same bytes again.
func FuzzPacket(f *testing.F) {
	for _, g := range goldens {
		p := packet(g.message)
		f.Add(p.Append(nil))
		p.Extension = []byte("x")
		f.Add(p.Append(nil))
	}
	k := key(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			isReason(t, err)
			return
		}
		if again := p.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("parsed\n%x\nappended\n%x", b, again)
		}
		if _, err := decode(k, AppendFrame(nil, sampleEnvelope, k.Seal(bytes.Clone(b)))); err != nil {
			t.Fatalf("signed: %v", err)
		}
	})
}

func isReason(t *testing.T, err error) {
	t.Helper()
	if r := Reason(""); !errors.As(err, &r) {
		t.Fatalf("error %v is no Reason", err)
	}
}
