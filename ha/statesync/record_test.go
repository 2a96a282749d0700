package statesync

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func addr(s string) Addr {
	a, _ := AddrOf(netip.MustParseAddr(s))
	return a
}

func tuple(proto uint8, src string, sport uint16, dst string, dport uint16) Tuple {
	return Tuple{Proto: proto, Src: addr(src), SrcPort: sport, Dst: addr(dst), DstPort: dport}
}

// full has everything that a TCP connection can have.
func full() Flow {
	return Flow{
		Family: Inet, Has: HasZone | HasTimeout | HasTCP | HasMark | HasLabels | HasSeqAdj | HasHelper | HasMaster, Zone: 5, ZoneDir: ZoneReply,
		Orig: tuple(TCP, "10.1.0.10", 40000, "192.0.2.10", 21), Reply: tuple(TCP, "192.0.2.10", 21, "192.0.2.1", 50000),
		Status: StatusSeenReply | StatusAssured | StatusConfirmed | StatusSrcNAT, Timeout: 432000, Mark: 7, Labels: [16]byte{1, 15: 2}, Helper: "ftp",
		TCP: TCPInfo{State: 3, Scale: [2]uint8{7, 14}, Flags: [2]uint8{3, 1}}, SeqAdj: [2]SeqAdj{{1, 2, 3}, {4, 5, 6}},
		Master: tuple(TCP, "10.1.0.10", 40001, "192.0.2.10", 21),
	}
}

func expectation() Expect {
	return Expect{
		Family: Inet, Zone: 5, Master: full().Orig, Tuple: tuple(TCP, "192.0.2.10", 0, "192.0.2.1", 50001),
		Mask: tuple(TCP, "255.255.255.255", 0, "255.255.255.255", 65535), Timeout: 300, Flags: 1, Class: 2, Helper: "ftp", Fn: "nat-follow-master",
		NAT: true, NATDir: 1, NATTuple: tuple(TCP, "10.1.0.10", 0, "0.0.0.0", 50002),
	}
}

// TestGolden holds the wire format: members of older versions rely on it.
func TestGolden(t *testing.T) {
	f, plain, six, x := full(), Flow{Family: Inet, Has: HasTimeout, Timeout: 30, Status: StatusConfirmed, Orig: tuple(UDP, "10.1.0.10", 1000, "192.0.2.10", 53)}, Flow{}, expectation()
	plain.Reply = plain.Orig.Inverse()
	six = Flow{Family: Inet6, Has: HasTimeout, Timeout: 29, Status: StatusSeenReply, Orig: tuple(ICMPv6, "2001:db8::1", 9, "2001:db8::2", 128<<8)}
	six.Reply = six.Orig.Inverse()
	hello := Hello{Version: 1, Cluster: 9, Member: 2, Nonce: 0x1122334455667788, Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd00::2")}}
	state := PeerState{InSync: true, Entries: 5, Text: "ok"}
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"everything", AppendFlow(nil, OpSet, &f), "010281f702000506" + "0a01000ac000020a9c400015" + "06c000020ac0000201" + "0015c350" + "001e00069780" + "03070e0301" + "00000007" + "01000000000000000000000000000002" + "000000010000000200000003000000040000000500000006" + "03667470" + "060a01000ac000020a9c410015"},
		{"plain UDP", AppendFlow(nil, OpAdd, &plain), "02020002110a01000ac000020a03e8003500080000001e"},
		{"ICMPv6", AppendFlow(nil, OpSet, &six), "010a00023a20010db800000000000000000000000120010db80000000000000000000000020009800000020000001d"},
		{"the end of it", AppendFlow(nil, OpDelete, &plain), "03020002110a01000ac000020a03e80035"},
		{"expectation", AppendExpect(nil, OpExpect, &x), "04020005060a01000ac000020a9c40001506c000020ac00002010000c35106ffffffffffffffff0000ffff0000012c0000000100000002036674701" + "16e61742d666f6c6c6f772d6d61737465720101060a01000a000000000000c352"},
		{"hello", hello.Append(nil), "0000002a01544b53590001090211223344556677880400020" + "20a0900020afd000000000000000000000000000002"},
		{"state", state.frame(), "0000000a0c01000000000502" + "6f6b"},
		{"need", bitsFrame(TypeNeed, &Bits{1, 15: 1 << 63})[:13], "00000081050000000000000001"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// random makes a flow that could exist.
func random(r *rand.Rand) Flow {
	f := Flow{Family: Inet, Has: HasTimeout, Timeout: r.Uint32N(maxTimeout), Status: r.Uint32() & carriedStatus}
	protos := []uint8{ICMP, TCP, UDP, GRE, SCTP, 50, 136}
	if r.IntN(2) == 0 {
		f.Family = Inet6
		protos[0] = ICMPv6
	}
	f.Orig.Proto = protos[r.IntN(len(protos))]
	a := func() (out Addr) {
		for i := range addrLen(f.Family) {
			out[i] = uint8(r.Uint32())
		}
		out[0] = 32 + uint8(r.IntN(60))
		return out
	}
	f.Orig.Src, f.Orig.Dst, f.Orig.SrcPort, f.Orig.DstPort = a(), a(), uint16(r.Uint32()), uint16(r.Uint32())
	f.Reply = f.Orig.Inverse()
	if r.IntN(2) == 0 {
		f.Reply.Dst, f.Reply.DstPort = a(), uint16(r.Uint32())
	}
	if f.Orig.Proto == TCP && r.IntN(5) > 0 {
		f.Has |= HasTCP
		f.TCP = TCPInfo{State: uint8(r.IntN(10)), Scale: [2]uint8{uint8(r.IntN(15)), uint8(r.IntN(15))}, Flags: [2]uint8{uint8(r.IntN(8)), uint8(r.IntN(8))}}
	}
	if f.Orig.Proto == SCTP {
		f.Has |= HasSCTP
		f.SCTP = SCTPInfo{State: uint8(r.IntN(10)), VTag: [2]uint32{r.Uint32(), r.Uint32()}}
	}
	if r.IntN(3) == 0 {
		f.Has |= HasMark | HasLabels | HasZone
		f.Mark, f.Zone, f.ZoneDir, f.Labels[3] = r.Uint32(), uint16(r.Uint32()), ZoneDirection(r.IntN(3)), 9
	}
	if r.IntN(9) == 0 {
		f.Has |= HasHelper | HasMaster | HasSeqAdj
		f.Helper, f.Master = Helpers[r.IntN(len(Helpers))], Tuple{Proto: TCP, Src: a(), Dst: a()}
		f.SeqAdj[1].After = r.Uint32()
	}
	return f
}

// maxRecord is the most bytes of one encoded change.
const maxRecord = 320

// TestRoundTrip: what is appended is read back, and every cut is noticed.
func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		f := random(r)
		b := AppendFlow(nil, OpSet, &f)
		if len(b) > maxRecord {
			t.Fatalf("%d bytes: %+v", len(b), f)
		}
		var c Change
		rest, err := ParseChange(append(b, 0xee), &c)
		if err != nil || len(rest) != 1 {
			t.Fatalf("%+v: %v, %d bytes left", f, err, len(rest))
		}
		if diff := cmp.Diff(f, c.Flow); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if cut := r.IntN(len(b)); true {
			if _, err := ParseChange(b[:cut], &c); err == nil {
				t.Fatalf("cut at %d of %d and not noticed: %+v", cut, len(b), f)
			}
		}
	}
	x := expectation()
	b := AppendExpect(nil, OpExpect, &x)
	var c Change
	if _, err := ParseChange(b, &c); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&x, c.Expect); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestRefused: what a kernel could not have said does not pass.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Flow)
		want   Reason
	}{
		{"loopback", func(f *Flow) { f.Orig.Src = addr("127.0.0.1") }, BadAddress},
		{"multicast", func(f *Flow) { f.Orig.Dst = addr("224.0.0.18") }, BadAddress},
		{"broadcast", func(f *Flow) { f.Reply.Src = addr("255.255.255.255") }, BadAddress},
		{"unspecified", func(f *Flow) { f.Reply.Dst = addr("0.0.0.0") }, BadAddress},
		{"protocol 0", func(f *Flow) { f.Orig.Proto, f.Reply.Proto = 0, 0 }, BadValue},
		{"two protocols", func(f *Flow) { f.Reply.Proto = UDP }, BadValue},
		{"ICMPv6 over IPv4", func(f *Flow) { f.Has = 0; f.Orig.Proto, f.Reply.Proto = ICMPv6, ICMPv6 }, BadValue},
		{"TCP state of UDP", func(f *Flow) { f.Orig.Proto, f.Reply.Proto = UDP, UDP }, BadRecord},
		{"TCP state", func(f *Flow) { f.TCP.State = 10 }, BadValue},
		{"window scale", func(f *Flow) { f.TCP.Scale[1] = 15 }, BadValue},
		{"helper", func(f *Flow) { f.Helper = "rootkit" }, BadHelper},
		{"helper with a strange suffix", func(f *Flow) { f.Helper = "ftp-12a" }, BadHelper},
		{"zone direction", func(f *Flow) { f.ZoneDir = 3 }, BadValue},
		{"loopback as the master", func(f *Flow) { f.Master.Dst = addr("127.0.0.1") }, BadAddress},
	} {
		f := full()
		c.change(&f)
		var out Change
		if _, err := ParseChange(AppendFlow(nil, OpSet, &f), &out); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if f := full(); func() bool {
		f.Helper = "ftp-2121"
		var c Change
		_, err := ParseChange(AppendFlow(nil, OpSet, &f), &c)
		return err != nil
	}() {
		t.Error("the helper of another port was refused")
	}
	for _, b := range [][]byte{{}, {1}, {0, 2}, {6, 2, 0, 0}, {1, 3, 0, 0}, {1, 2, 0x7e, 0}} {
		var out Change
		if _, err := ParseChange(b, &out); err == nil {
			t.Errorf("%x passed", b)
		}
	}
}

func FuzzParseChange(f *testing.F) {
	fl, x := full(), expectation()
	f.Add(AppendFlow(nil, OpSet, &fl))
	f.Add(AppendFlow(nil, OpDelete, &fl))
	f.Add(AppendExpect(nil, OpExpect, &x))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c, again Change
		rest, err := ParseChange(b, &c)
		if err != nil {
			return
		}
		if len(rest) >= len(b) {
			t.Fatal("nothing was read")
		}
		var out []byte
		if c.Expect != nil {
			out = AppendExpect(nil, c.Op, c.Expect)
		} else {
			out = AppendFlow(nil, c.Op, &c.Flow)
		}
		if _, err := ParseChange(out, &again); err != nil {
			t.Fatalf("what was accepted is not when sent on: %v", err)
		}
		if diff := cmp.Diff(c, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzHello(f *testing.F) {
	h := Hello{Version: 1, Cluster: 9, Member: 2, Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.2")}}
	f.Add(h.Append(nil)[FrameHeader:])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHello(b)
		if err == nil && (h.Version != Version || len(h.Addresses) > MaxAddresses) {
			t.Errorf("%+v", h)
		}
	})
}

// FuzzFrame feeds a session with whatever; nothing panics, and nothing that is not carried reaches the kernel.
func FuzzFrame(f *testing.F) {
	fl := full()
	var w bundle
	w.delta(deltaHeader{seq: 1, term: 1, holder: true})
	w.b = AppendFlow(w.b, OpSet, &fl)
	w.count++
	f.Add(uint8(TypeDelta), w.done()[FrameHeader:])
	f.Add(uint8(TypeDigest), digestFrame(1, true, 3, &Digest{1})[FrameHeader:])
	f.Add(uint8(TypeRepairEnd), bitsFrame(TypeRepairEnd, &Bits{})[FrameHeader:])
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		k := &fakeKernel{entries: map[Tuple]Flow{}, room: 1000}
		m := machineFor(t, 2, k, &fakeOutput{})
		m.loaded = true
		m.PeerUp(0, Hello{Version: 1, Cluster: 1, Member: 1})
		m.Frame(0, 1, TypeRepairBegin, make([]byte, 128))
		m.Frame(0, 1, Type(kind), payload)
		for _, f := range k.entries {
			if err := checkTuples(f.Family, &f.Orig, &f.Reply); err != nil {
				t.Errorf("in the kernel: %+v: %v", f, err)
			}
		}
	})
}
