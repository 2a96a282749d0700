package filter

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
)

// expressions are those operators use, and what is near them.
var expressions = []string{
	"", "ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "igrp", "pim", "vrrp", "carp", "ah", "esp",
	"host 10.1.0.5", "src host 10.1.0.5", "dst host 10.1.0.5", "src 10.1.0.5", "src or dst host 10.1.0.5", "src and dst host 10.1.0.5", "dst and src host 10.1.0.5",
	"ip host 10.1.0.5", "arp host 10.1.0.5", "arp src 10.1.0.5", "rarp dst host 10.1.0.5", "host 2001:db8::1", "ip6 host fe80::1", "src host 2001:db8:0:1::5", "dst fe80::1",
	"host 10.1.0.5 and not arp", "host 10.1.0.5 or 10.2.0.2", "host 10.1.0.5 or host 2001:db8::1", "not host 10.1.0.1 and 10.1.0.5", "host (10.1.0.1 or 10.1.0.5)",
	"dst host (10.1.0.1 or 10.1.0.5) and tcp", "(host 10.1.0.5 or host 10.2.0.2) and tcp",
	"net 10.1.0.0/16", "net 10", "net 10.1", "net 10.1.0", "net 10.1.0.5", "src net 10.1.0.0/24", "dst net 192.0.2.0 mask 255.255.255.0", "net 0.0.0.0/0", "net 10.0.0.0/7",
	"net 2001:db8::/32", "src net fe80::/10", "net ::/0", "net 2001:db8:0:1::/64", "ip6 net 2001:db8::1/128", "net 2001:db8::1",
	"port 53", "tcp port 80", "udp port 53", "tcp src port 443", "udp dst port 53", "src port 22", "dst port 999", "src or dst port 80", "src and dst port 999", "sctp port 80",
	"portrange 50-60", "tcp portrange 400-500", "dst portrange 990-1000", "portrange 60-50", "udp src portrange 1-1023", "portrange 80",
	"port 80 or 443", "host 10.1.0.5 and len > 80", "port 80 or 443 and len - 4 > 80", "ether dst ff:ff:ff:ff:ff:ff or ip[8] = 255 or tcp port 80 or 22", "port (80 or 443)", "tcp port (80 or 443) or udp port 53", "tcp port 80 or 443 or arp",
	"port 22 and host 10.1.0.5", "not port 22", "not tcp port 22", "! port 22", "tcp && !port 80", "tcp || udp", "not (tcp port 80 or udp port 53)", "not not arp",
	"arp or icmp", "icmp or arp or vrrp", "tcp and port 80 or udp and port 53", "udp or tcp and port 80", "((((arp))))", "not ((arp) or (icmp))",
	"udp port 999", "udp port 8116", "proto 6", "ip proto 112", `ip proto \tcp`, "ip6 proto 58", `ip6 proto \udp`, "ip proto 47", "ether proto 0x88cc", `ether proto \arp`, `ether proto \ip`,
	"ether host 10:00:00:00:05:07", "ether src 02:00:00:00:00:01", "ether dst host 11-00-00-00-05-07", "ether dst ff:ff:ff:ff:ff:ff", "ether host 10:0:0:0:5:7 and arp",
	"broadcast", "multicast", "ether broadcast", "ether multicast", "ip multicast", "ip6 multicast", "not multicast",
	"vlan", "vlan 5", "vlan 5 and host 10.1.0.5", "vlan and vlan 6", "vlan 5 and vlan 6 and tcp port 80", "tcp or vlan", "vlan or tcp", "vlan 5 and ip6", "not vlan", "host 10.1.0.5 or (vlan and host 10.1.0.5)",
	"vlan and udp[0:2] = 53", "vlan and ether[12:2] = 0x8100",
	"less 80", "greater 90", "len > 80", "len <= 90", "len - 14 = 66",
	"tcp[tcpflags] & tcp-syn != 0", "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "tcp[13] = 2", "tcp[tcpflags] == tcp-syn|tcp-ack", "tcp[tcpflags] & (tcp-rst) != 0", "(tcp[tcpflags] & tcp-syn) != 0",
	"tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420", "tcp[0:2] = 80", "udp[0:2] = udp[2:2]", "udp[2:2] > 1000", "ip[8] = 255", "ip[6:2] & 0x1fff != 0", "ip[0] & 0xf > 5", "ip[0]&0xf!=5", "ip6[7] = 64",
	"icmp[icmptype] = icmp-echo", "icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply", "icmp6[icmp6type] = icmp6-echo", "icmp[0] = 8", "ether[0] & 1 = 1", "ether[0:4] = 0x11000000", "arp[6:2] = 2", "arp[7] = 1",
	"ip[2:2] - (ip[0] & 0xf) * 4 > 60", "(ip[2:2] - ((ip[0] & 0xf) << 2)) != 0", "ip[0] ^ 3 & 1 | 4 = 64", "ether[0] + 2 * 3 % 2 = 18", "ip[1] + ip[2] + ip[3] * ip[8] / 3 > 100", "1 = 1", "-1 > 5 or tcp", "ip[8] / ip[9] = 4", "ip[8] % 7 = 1", "ip[ip[0] & 0xf] < 100",
	"vrrp[0] = 33 or vrrp", "sctp[0:2] = 80", "igmp[0] > 3", "pim[0] > 3", "rarp[7] = 1",
}

// refused are not in the syntax, or not supported, with what the error says.
var refused = map[string]string{
	"host": "something is missing", "host gw.example.org": "not looked up", "host 10.1.0.0/16": "write net", "src 10.1.0.0/16": "write net", "net 10.1.0.5/16": "10.1.0.0/16", "net 10.1.0.0/33": "at most 32", "net 10.1.0.0 mask 255.0.255.0": "in front",
	"port": "something is missing", "port 70000": "0 to 65535", "port nosuch": "0 to 65535", "port 80-90": "portrange", "portrange 1-99999": "0 to 65535", "icmp port 5": "has no ports", "ip port 5": "has no ports", "ether port 5": "has no ports",
	"tcp host 10.1.0.5": "tcp and host", "ip host 2001:db8::1": "is not one of ip", "ether host 10.1.0.5": "10:00:00:00:05:07", "host 10:00:00:00:05:07": "ether host", "ether net 10.0.0.0/8": "no networks", "ether": "behind ether",
	"10.1.0.5": "host, net or port", "80": "neither true nor false", "tcp and 80": "neither true nor false", "tcp 80": "and, or", "tcp port 80 udp": "and, or", "(tcp": `")"`, "tcp)": "and, or", "tcp and": "something is missing", "not": "something is missing", "()": "primitive",
	"vlan 5000": "4095", "ip broadcast": "dst host", "tcp broadcast": "neither", "protochain 6": "proto", "ip protochain 6": "proto", "gateway gw": "ether host", "mpls": "0x8847", "pppoes": "0x8864", "type mgt": "not supported", "geneve": "6081", "TCP": "write tcp", "Host 10.1.0.5": "write host",
	"inbound": "while it passes", "tcp[13": `"]"`, "tcp[13:3] = 1": "1, 2 or 4", "tcp[70000] = 1": "65535", "tcp[arp] = 1": "offset", "tcp[13]": "neither true nor false", "tcp[13] & 2": "neither true nor false", "tcp & udp": "between numbers", "tcp = udp": "only numbers",
	"ip[0] / 0 = 1": "zero", "ip[0] << 32 = 1": "31", "host 10.1.0.5 # x": "means nothing", "less x": "length", "proto 300": "0 to 255", "src proto 6": "no direction", "tcp proto 6": "proto stands behind", "ether proto 5": "0x600", "ether proto x": "0x88cc", "host fe80::1%lan": "not known", "host ::ffff:10.1.0.5": "192.0.2.1",
	"frobnicate": "not known", "net x": "not a network", "net 10.1.0.0 mask x": "not a mask", "len": "neither true", "host 10.1.0.5 or and": "not known", "- = 5": "primitive",
	strings.Repeat("(", 100) + "arp" + strings.Repeat(")", 100): "nested too deep", strings.Repeat("not ", 100) + "arp": "nested too deep", strings.Repeat("x", 5000): "longer", strings.Repeat("-", 100) + "5 = 5": "nested too deep",
	"port 1" + strings.Repeat(" or 1", 700): "kernel takes",
}

func compile(t *testing.T, expression string) *bpf.VM {
	t.Helper()
	code, err := Compile(expression, Options{})
	if err != nil {
		t.Fatalf("%q: %v", expression, err)
	}
	if _, err := bpf.Assemble(code); err != nil {
		t.Fatalf("%q: %v", expression, err)
	}
	vm, err := bpf.NewVM(code)
	if err != nil {
		t.Fatalf("%q: %v", expression, err)
	}
	return vm
}

// tcpdump is what tcpdump makes of an expression, nil when it refuses it.
func tcpdump(t *testing.T, expression string) *bpf.VM {
	t.Helper()
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip("no tcpdump on this machine; to compare with it: apt-get install --no-install-recommends tcpdump")
	}
	out, err := exec.Command("tcpdump", "-y", "EN10MB", "-ddd", "--", expression).Output()
	if err != nil {
		return nil
	}
	var raw []bpf.RawInstruction
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n")[1:] {
		var r bpf.RawInstruction
		if _, err := fmt.Sscan(line, &r.Op, &r.Jt, &r.Jf, &r.K); err != nil {
			t.Fatal(err)
		}
		raw = append(raw, r)
	}
	code, _ := bpf.Disassemble(raw)
	vm, err := bpf.NewVM(code)
	if err != nil {
		t.Fatalf("tcpdump's program of %q: %v", expression, err)
	}
	return vm
}

// same runs both programs over many packets.
func same(t *testing.T, expression string, ours, theirs *bpf.VM, packets [][]byte) {
	t.Helper()
	for _, p := range packets {
		a, errA := ours.Run(p)
		b, errB := theirs.Run(p)
		if errA != nil || errB != nil || (a > 0) != (b > 0) {
			t.Errorf("%q of % x: %d %v, tcpdump %d %v", expression, p, a, errA, b, errB)
			return
		}
	}
}

func somePackets(seed uint64, n int) [][]byte {
	r := rand.New(rand.NewPCG(seed, 1))
	out := make([][]byte, n)
	for i := range out {
		out[i] = somePacket(r)
	}
	return out
}

// TestAgainstTcpdump: the programs choose the packets that tcpdump's choose. No expression chooses all of them or none for no reason:
// that would prove nothing.
func TestAgainstTcpdump(t *testing.T) {
	packets := somePackets(1, 10000)
	for _, e := range expressions {
		theirs := tcpdump(t, e)
		if theirs == nil {
			t.Errorf("tcpdump refuses %q", e)
			continue
		}
		ours := compile(t, e)
		same(t, e, ours, theirs, packets)
		chosen := 0
		for _, p := range packets {
			if n, _ := ours.Run(p); n > 0 {
				chosen++
			}
		}
		if chosen == 0 && !strings.Contains(e, "0x47455420") {
			t.Errorf("%q chooses none of %d packets", e, len(packets))
		}
	}
}

// TestRandomAgainstTcpdump joins expressions by chance.
func TestRandomAgainstTcpdump(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	packets := somePackets(2, 400)
	var make func(depth int) string
	make = func(depth int) string {
		switch k := r.IntN(5); {
		case depth == 0 || k == 0:
			return pick(r, expressions[1:])
		case k == 1:
			return "not (" + make(depth-1) + ")"
		case k == 2:
			return "(" + make(depth-1) + ") or " + make(depth-1)
		case k == 3:
			return make(depth-1) + " or (" + make(depth-1) + ")"
		}
		return "(" + make(depth-1) + ") and (" + make(depth-1) + ")"
	}
	compared := 0
	for range 150 {
		e := make(3)
		if len(e) > MaxLength {
			continue
		}
		if theirs := tcpdump(t, e); theirs != nil { // it finds that some can never be true, and refuses them
			same(t, e, compile(t, e), theirs, packets)
			compared++
		}
	}
	if compared < 50 {
		t.Errorf("only %d could be compared", compared)
	}
}

// TestRefused: what is not supported is named, with what to write instead.
func TestRefused(t *testing.T) {
	for e, want := range refused {
		_, err := Compile(e, Options{})
		var fault *Error
		if !errors.As(err, &fault) || !strings.Contains(fault.Text+" "+fault.Hint, want) {
			t.Errorf("%.60q: %v, want %q", e, err, want)
		}
	}
}

// TestLenient are the few things that tcpdump does not take.
func TestLenient(t *testing.T) {
	packets := somePackets(3, 1000)
	for e, means := range map[string]string{
		"ip proto tcp": `ip proto \tcp`, "ether proto arp": `ether proto \arp`, "ip proto gre": "ip proto 47", "port domain": "port 53", "tcp port https": "tcp port 443", "port ssh or domain": "port 22 or 53", "ip proto ospf": "ip proto 89",
	} {
		a, b := compile(t, e), compile(t, means)
		same(t, e, a, b, packets)
	}
}

// TestLong: jumps over more than 255 instructions arrive.
func TestLong(t *testing.T) {
	var parts []string
	for i := range 100 {
		parts = append(parts, fmt.Sprintf("host 10.9.%d.1", i))
	}
	packets := somePackets(4, 500)
	for _, e := range []string{
		"ip host 10.1.0.5 or " + strings.Join(parts, " or "), "(" + strings.Join(parts, " or ") + ") or udp", "not (" + strings.Join(parts, " or ") + ")",
		"tcp and (" + strings.Join(parts, " or ") + " or port 80)", "not arp and not (" + strings.Join(parts, " or ") + ") and tcp port 80",
	} {
		if theirs := tcpdump(t, e); theirs != nil {
			same(t, e, compile(t, e), theirs, packets)
		} else {
			t.Errorf("tcpdump refuses %.40q", e)
		}
	}
}

// TestSnaplen: the program keeps so much of a packet.
func TestSnaplen(t *testing.T) {
	for give, want := range map[uint32]int{0: 60, 1: 1, 96: 60, 1 << 31: 60} { // the packet has 60 bytes
		code, err := Compile("", Options{Snaplen: give})
		if err != nil {
			t.Fatal(err)
		}
		vm, _ := bpf.NewVM(code)
		if n, _ := vm.Run(make([]byte, 60)); min(n, 60) != want {
			t.Errorf("snaplen %d: %d", give, n)
		}
	}
}

// FuzzCompile: no expression makes trouble, and what compiles is a program the kernel's checks let pass: it ends, on packets of any length.
func FuzzCompile(f *testing.F) {
	for _, e := range expressions {
		f.Add(e, []byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x08\x00\x45"))
	}
	for e := range refused {
		f.Add(e, []byte{})
	}
	f.Fuzz(func(t *testing.T, e string, packet []byte) {
		for _, live := range []bool{false, true} {
			code, err := Compile(e, Options{Live: live})
			var fault *Error
			if err != nil {
				if !errors.As(err, &fault) || fault.Error() == "" {
					t.Fatalf("%q: %v", e, err)
				}
				continue
			}
			if _, err := bpf.Assemble(code); err != nil {
				t.Fatalf("%q: %v", e, err)
			}
			if vm, err := bpf.NewVM(code); err == nil {
				vm.Run(packet)
			} else if !live { // x/net's machine knows no extensions but the length
				t.Fatalf("%q: %v", e, err)
			}
		}
	})
}
