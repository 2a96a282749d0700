package dissect

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"unicode"

	"github.com/twinkeep/twinkeep/ha/ccp"
	"github.com/twinkeep/twinkeep/ha/wire"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	macs   = "1000000005 07 020000000001 "
	ip4to  = "0a010005 c0000207 " // 10.1.0.5 > 192.0.2.7
	ip6to  = "20010db8000000000000000000000001 fe800000000000000000000000000002 "
	tcpSyn = "c822 01bb 00000064 00000000 5002 faf0 0000 0000 "
)

// lines are frames and what is said of them. They were made by hand from the RFCs.
var lines = []struct{ frame, want string }{
	{"0800 4500002800004000 4006 0000" + ip4to + tcpSyn, "IP 10.1.0.5.51234 > 192.0.2.7.443: Flags [S], seq 100, win 64240, length 0"},
	{"0800 4500002e00004000 4006 0000" + ip4to + "01bb c822 fffffffe 00000065 5018 faf0 0000 0000 aabbccddeeff", "IP 10.1.0.5.443 > 192.0.2.7.51234: Flags [P.], seq 4294967294:4, ack 101, win 64240, length 6"},
	{"0800 4500002800004000 4006 0000" + ip4to + "01bb c822 00000000 00000000 5000 faf0 0000 0000", "IP 10.1.0.5.443 > 192.0.2.7.51234: Flags [none], seq 0, win 64240, length 0"},
	{"0800 4600002000000000 4011 0000" + ip4to + "94040000 0035 0400 0008 0000", "IP 10.1.0.5.53 > 192.0.2.7.1024: UDP, length 0"},
	{"0800 4500001c00002000 4011 0000" + ip4to + "0035 0400 0008 0000", "IP 10.1.0.5.53 > 192.0.2.7.1024: UDP, length 0, first fragment"},
	{"0800 4500001c00002009 4011 0000" + ip4to + "0035 0400 0008 0000", "IP 10.1.0.5 > 192.0.2.7: UDP, fragment at 72, more follow, length 8"},
	{"0800 4500001c00000009 4011 0000" + ip4to + "0035 0400 0008 0000", "IP 10.1.0.5 > 192.0.2.7: UDP, fragment at 72, length 8"},
	{"0800 4500005400004000 4001 0000" + ip4to + "0800 0000 0007 0001 00", "IP 10.1.0.5 > 192.0.2.7: ICMP echo request, id 7, seq 1, length 64"},
	{"0800 4500003800004000 4001 0000" + ip4to + "0304 0000 0000 05dc 45000054000040003f010000" + "c0000207 0a010005", "IP 10.1.0.5 > 192.0.2.7: ICMP fragmentation needed (mtu 1500), to 10.1.0.5, length 36"},
	{"0800 4500003800004000 4001 0000" + ip4to + "0501 0000 0a010009", "IP 10.1.0.5 > 192.0.2.7: ICMP redirect to 10.1.0.9, length 36"},
	{"0800 4500001c00004000 4001 0000" + ip4to + "2a03 0000 0000 0000", "IP 10.1.0.5 > 192.0.2.7: ICMP type 42, code 3, length 8"},
	{"0800 4500001c00004000 ff70 0000" + "0a010005 e0000012" + "3133 6401 0064 0000", "IP 10.1.0.5 > 224.0.0.18: VRRPv3 advertisement, vrid 51, prio 100, ttl 255, length 8"},
	{"0800 4500001c00004000 4032 0000" + ip4to + "00001234 00000002", "IP 10.1.0.5 > 192.0.2.7: ESP, spi 0x00001234, seq 2, length 8"},
	{"0800 4500001800004000 402f 0000" + ip4to + "00000800", "IP 10.1.0.5 > 192.0.2.7: GRE, length 4"},
	{"0800 4500001800004000 40fd 0000" + ip4to + "00000800", "IP 10.1.0.5 > 192.0.2.7: proto 253, length 4"},
	{"0800 4500002000004000 4084 0000" + ip4to + "0050 0400 00000000 00000000", "IP 10.1.0.5.80 > 192.0.2.7.1024: SCTP, length 0"},
	{"0800 4500002800004000 4006 0000" + ip4to + "c822 01bb", "IP 10.1.0.5 > 192.0.2.7: TCP, length 20"}, // cut by the snaplen
	{"0800 45", "IP [cut short]"},
	{"0800 4100002800004000 4006 0000" + ip4to, "IP [cut short]"},
	{"86dd 60000000 0014 0640" + ip6to + tcpSyn, "IP6 2001:db8::1.51234 > fe80::2.443: Flags [S], seq 100, win 64240, length 0"},
	{"86dd 60000000 0010 1140" + ip6to + "0035 0400 0010 0000 0102030405060708", "IP6 2001:db8::1.53 > fe80::2.1024: UDP, length 8"},
	{"86dd 60000000 0018 0040" + ip6to + "11 00 0000 00000000" + "0035 0400 0010 0000 0102030405060708", "IP6 2001:db8::1.53 > fe80::2.1024: UDP, length 8"}, // hop-by-hop options
	{"86dd 60000000 0010 2c40" + ip6to + "11 00 0059 00000001 0035 0400 0008 0000", "IP6 2001:db8::1 > fe80::2: UDP, fragment at 88, more follow, length 8"},
	{"86dd 60000000 0010 2c40" + ip6to + "11 00 0001 00000001 0035 0400 0008 0000", "IP6 2001:db8::1.53 > fe80::2.1024: UDP, length 0"},
	{"86dd 60000000 0020 3aff" + ip6to + "8700 0000 00000000 20010db8000000000000000000000001 0101 020000000001", "IP6 2001:db8::1 > fe80::2: ICMP6 neighbor solicitation, who has 2001:db8::1, at 02:00:00:00:00:01, length 32"},
	{"86dd 60000000 0020 3aff" + ip6to + "8800 0000 a0000000 20010db8000000000000000000000001 0201 100000000507", "IP6 2001:db8::1 > fe80::2: ICMP6 neighbor advertisement, tgt is 2001:db8::1, router, override, at 10:00:00:00:05:07, length 32"},
	{"86dd 60000000 0010 3aff" + ip6to + "8600 0000 00000000 00000000 00000000", "IP6 2001:db8::1 > fe80::2: ICMP6 router advertisement, length 16"},
	{"86dd 60000000 0008 3a40" + ip6to + "8000 0000 0007 0001", "IP6 2001:db8::1 > fe80::2: ICMP6 echo request, id 7, seq 1, length 8"},
	{"86dd 60", "IP6 [cut short]"},
	{"0806 0001 0800 06 04 0001 020000000001 0a010005 000000000000 0a010001", "ARP, Request who-has 10.1.0.1 tell 10.1.0.5, length 28"},
	{"0806 0001 0800 06 04 0002 100000000507 0a010001 020000000001 0a010005", "ARP, Reply 10.1.0.1 is-at 10:00:00:00:05:07, length 28"},
	{"0806 0001 0800 06 04 0001 100000000507 0a010001 000000000000 0a010001", "ARP, Announcement 10.1.0.1 is-at 10:00:00:00:05:07, length 28"},
	{"0806 0001 0800 06 04 0001 020000000001 00000000 000000000000 0a010001", "ARP, Probe who-has 10.1.0.1, length 28"},
	{"0806 0006 0800 06 04 0001 020000000001 00000000 000000000000 0a010001", "ARP, not Ethernet and IPv4, op 1, length 28"},
	{"0806 0001", "ARP, [cut short], length 2"},
	{"8100 0005 0800 4500001800004000 402f 0000" + ip4to + "00000800", "vlan 5, p 0, IP 10.1.0.5 > 192.0.2.7: GRE, length 4"},
	{"88a8 e006 8100 0005 0806 0001", "vlan 6, p 7, vlan 5, p 0, ARP, [cut short], length 2"},
	{"88cc 0000", "02:00:00:00:00:01 > 10:00:00:00:05:07, LLDP, length 2"},
	{"0026 42 42 03 00", "02:00:00:00:00:01 > 10:00:00:00:05:07, STP, length 4"},
	{"1234 00", "02:00:00:00:00:01 > 10:00:00:00:05:07, ethertype 0x1234, length 1"},
	{"", "[cut short], length 12"},
}

func TestLine(t *testing.T) {
	for _, c := range lines {
		frame := unhex(t, macs+c.frame)
		if got := Line(frame, len(frame), Options{}); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.frame, got, c.want)
		}
	}
	frame := unhex(t, macs+"0806 0001 0800 06 04 0001 020000000001 0a010005 000000000000 0a010001")
	const want = "02:00:00:00:00:01 > 10:00:00:00:05:07, ARP, length 60: ARP, Request who-has 10.1.0.1 tell 10.1.0.5, length 46"
	if got := Line(frame, 60, Options{Link: true}); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

var envelope = wire.Envelope{Dst: wire.BeatMAC(5, 7), Src: wire.MAC{2, 0, 0, 0, 0, 1}, SrcIP: netip.MustParseAddr("10.1.0.2"), DstIP: netip.MustParseAddr("10.1.0.255")}

func beat(t testing.TB, h wire.Beat) []byte {
	t.Helper()
	k, err := wire.NewKey(make([]byte, wire.KeyLen))
	if err != nil {
		t.Fatal(err)
	}
	return wire.AppendFrame(nil, envelope, k.Seal(h.Append(nil)))
}

func message(t testing.TB, m ccp.Message) []byte {
	t.Helper()
	k, err := ccp.NewKey(make([]byte, wire.KeyLen))
	if err != nil {
		t.Fatal(err)
	}
	p := ccp.Packet{Version: 1, Cluster: 7, Interface: 3, Source: 2, PolicyID: 5, Message: m, Nonce: 1, Seq: 2}
	return ccp.AppendFrame(nil, ccp.Envelope{Dst: envelope.Dst, Src: envelope.Src, SrcIP: envelope.SrcIP, DstIP: envelope.DstIP}, k.Seal(p.Append(nil)))
}

var holder = wire.Beat{
	Version: 1, Flags: wire.Holder | wire.InSync | wire.Ceded, Cluster: 7, Member: 1, State: wire.Active, Interface: 2, Nonce: 0xabcd << 48, Seq: 1234, Term: 5, Priority: 100,
	Connections: 42, PolicyRevision: 9, Order: wire.Keep, Vote: 1, Heard: []wire.Heard{{Member: 2, Seq: 77}, {Member: 3, Seq: 88}},
}

// TestCluster: what members say to each other is shown with what it says.
func TestCluster(t *testing.T) {
	farewell := wire.Beat{Version: 1, Flags: wire.Farewell, Cluster: 7, Member: 2, State: wire.Down, Seq: wire.FinalSeq, Demotion: 10, Order: wire.Shut, Successor: 1}
	routed := beat(t, holder)
	routed[22] = 64
	newer := beat(t, holder)
	newer[wire.OffsetPayload+6] = 99
	for _, c := range []struct {
		frame []byte
		want  string
	}{
		{beat(t, holder), "IP 10.1.0.2 > 10.1.0.255: heartbeat cluster 7 member 1 ACTIVE, holder, in sync, ceded, gate keep, term 5, seq 1234, boot abcd, if 2, prio 100, conns 42, policy 9, vote 1, heard 2@77, 3@88, length 130"},
		{beat(t, farewell), "IP 10.1.0.2 > 10.1.0.255: heartbeat cluster 7 member 2 DOWN, FAREWELL, gate shut, term 0, seq 18446744073709551615, boot 0, if 0, demotion 10, prio 0, conns 0, policy 0, successor 1, length 94"},
		{routed, "IP 10.1.0.2 > 10.1.0.255: heartbeat that is refused: ttl_too_low"},
		{newer, "IP 10.1.0.2 > 10.1.0.255: heartbeat that is refused: malformed"},
		{beat(t, holder)[:60], "IP 10.1.0.2 > 10.1.0.255: heartbeat that is refused: truncated"},
		{message(t, ccp.MyState{Mode: ccp.ActiveUp, TimeUnit: 100, States: []ccp.State{ccp.Active, ccp.Standby}, Interfaces: &ccp.InterfaceReport{InUp: 3, OutUp: 3, LastSeen: []uint8{0, 1}}}),
			"IP 10.1.0.2 > 10.1.0.255: CCP MY_STATE cluster 7 member 2 > all, if 3, mode active-up, 1 ACTIVE, 2 STANDBY, up in 3 out 3, policy 5, length 74"},
		{message(t, ccp.IfProbeReq{Interface: 3}), "IP 10.1.0.2 > 10.1.0.255: CCP IF_PROBE_REQ cluster 7 member 2 > all, if 3, probes if 3, policy 5, length 62"},
		{message(t, ccp.PolicyChange{Status: ccp.ReadyToChange}), "IP 10.1.0.2 > 10.1.0.255: CCP POLICY_CHANGE cluster 7 member 2 > all, if 3, ready-to-change, policy 5, length 62"},
		{message(t, ccp.QueryState{})[:60], "IP 10.1.0.2 > 10.1.0.255: CCP that is refused: truncated"},
	} {
		if got := Line(c.frame, len(c.frame), Options{}); got != c.want {
			t.Errorf("\n got %s\nwant %s", got, c.want)
		}
	}
	// Other traffic of these ports is what it is.
	other := beat(t, holder)
	other[wire.OffsetPayload] = 0
	if got, want := Line(other, len(other), Options{}), "IP 10.1.0.2.999 > 10.1.0.255.999: UDP, length 130"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// FuzzLine: no frame makes trouble, nor a line that is long or moves the cursor of a terminal.
func FuzzLine(f *testing.F) {
	for _, c := range lines {
		frame := unhex(f, macs+c.frame)
		f.Add(frame, len(frame), true)
	}
	f.Add(beat(f, holder), 100, false)
	f.Add(message(f, ccp.IfConfReply{Addr: netip.MustParseAddr("10.1.0.3")}), -5, false)
	f.Fuzz(func(t *testing.T, frame []byte, length int, link bool) {
		line := Line(frame, length, Options{Link: link})
		if line == "" || len(line) > 700 || strings.IndexFunc(line, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }) >= 0 {
			t.Errorf("%d: %q", len(line), line)
		}
	})
}
