package explain

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"

	"github.com/twinkeep/twinkeep/firmware/netconf"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/policy"
	"github.com/twinkeep/twinkeep/firmware/ruleset"
	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// gateway is a namespace with the network of a policy; the other ends of its cables are all in hosts.
type gateway struct {
	ns, hosts *netnslab.NS
	node      *node.Node
	raw       map[string]*packet.Conn // by interface
	all       *netnslab.AllNICs
	names     map[int]string // interface by the index of the other end
	macs      map[string][]byte
}

func newGateway(t *testing.T, n *node.Node) *gateway {
	g := &gateway{ns: netnslab.New(t), hosts: netnslab.New(t), node: n, raw: map[string]*packet.Conn{}, names: map[int]string{}, macs: map[string][]byte{}}
	g.hosts.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	g.ns.Run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
	for _, f := range n.Interfaces {
		netnslab.Veth(g.ns, f.Device, g.hosts, f.Device)
		// Without ARP the gateway takes every neighbour to be there.
		g.ns.IP("link set " + f.Device + " arp off")
		g.hosts.IP("link set " + f.Device + " arp off")
		g.ns.IP(fmt.Sprintf("link add link %s name %s type macvlan mode private", f.Device, f.VIPDevice()))
		g.ns.IP("link set " + f.VIPDevice() + " arp off up")
		for _, v := range f.VIPs {
			g.ns.IP(fmt.Sprintf("addr add %s/%d dev %s nodad", v, v.BitLen(), f.VIPDevice()))
		}
	}
	g.ns.Try(func() error {
		if _, err := netconf.New(n).Apply(); err != nil {
			return err
		}
		_, err := netconf.Forward()
		return err
	})
	for _, f := range n.Interfaces {
		g.raw[f.Name] = g.hosts.Raw(f.Device)
		t.Cleanup(func() { g.raw[f.Name].Close() })
		g.names[g.hosts.Index(f.Device)] = f.Name
		g.macs[f.Device], g.macs[f.VIPDevice()] = g.ns.MAC(f.Device), g.ns.MAC(f.VIPDevice())
	}
	g.all = g.hosts.RawAll()
	return g
}

// seen is a packet that came out of the gateway.
type seen struct {
	out      string
	from, to netip.Addr
	port     uint16
}

// probe sends one packet and compares what happens with what Explain says.
func (g *gateway) probe(r *rules.Rules, p Packet, device string, id uint32) error {
	want := Explain(r, p)
	expected := map[string]uint64{}
	for _, rule := range want.Rules() {
		expected[rule]++
	}
	var before map[string]ruleset.Count
	if err := g.do(func() (err error) {
		if err := netlink.ConntrackTableFlush(netlink.ConntrackTable); err != nil {
			return err
		}
		before, err = counts()
		return err
	}); err != nil {
		return err
	}
	g.drain()
	frame := frameOf(p, g.macs[device], id)
	if _, err := g.raw[want.In].WriteTo(frame, netnslab.To(g.macs[device])); err != nil {
		return err
	}
	var moved map[string]uint64
	var out []seen
	for deadline := time.Now().Add(2 * time.Second); ; {
		out = append(out, g.receive(id)...)
		err := g.do(func() error {
			now, err := counts()
			moved = difference(before, now)
			return err
		})
		if err != nil {
			return err
		}
		if maps.Equal(moved, expected) && (len(out) > 0) == (want.Verdict == Forwarded) || time.Now().After(deadline) {
			break
		}
	}
	if !maps.Equal(moved, expected) {
		return fmt.Errorf("%s: the kernel counts %v, want %v\n%s", describe(p), moved, expected, story(want))
	}
	if (len(out) > 0) != (want.Verdict == Forwarded) {
		return fmt.Errorf("%s: out came %v, want it %s\n%s", describe(p), out, want.Verdict, story(want))
	}
	if want.Verdict != Forwarded {
		return nil
	}
	from := want.From
	if !from.First.IsValid() {
		f := g.node.Interface(want.Out)
		from = rules.Single(f.Address.Addr())
		if p.From.Is6() {
			from = rules.Single(f.Address6.Addr())
		}
	}
	got := out[0]
	if got.out != want.Out || !from.Contains(got.from) || got.to != want.To || rules.HasPorts(p.Proto) && got.port != want.Port {
		return fmt.Errorf("%s: out came %v\n%s", describe(p), got, story(want))
	}
	return nil
}

func (g *gateway) do(f func() error) (err error) {
	g.ns.Do(func() { err = f() })
	return err
}

func counts() (map[string]ruleset.Count, error) {
	c, err := ruleset.ReadCounters()
	return c.ByRule(), err
}

func difference(before, now map[string]ruleset.Count) map[string]uint64 {
	out := map[string]uint64{}
	for id, n := range now {
		if d := n.Packets - before[id].Packets; d > 0 {
			out[id] = d
		}
	}
	return out
}

func (g *gateway) drain() {
	for len(g.receive(0)) > 0 {
	}
}

// receive gives the packets with the id that came out so far; all packets when it is 0.
func (g *gateway) receive(id uint32) (out []seen) {
	buf := make([]byte, 2048)
	for {
		n, index, err := g.all.ReceiveNow(buf)
		if err != nil {
			return out
		}
		if id == 0 {
			out = append(out, seen{})
			continue
		}
		if s, ok := parse(buf[:n], id); ok {
			s.out = g.names[index]
			out = append(out, s)
		}
	}
}

func describe(p Packet) string {
	return fmt.Sprintf("%s:%d -> %s:%d proto %d type %d in %q", p.From, p.SourcePort, p.To, p.Port, p.Proto, p.Type, p.In)
}

func story(r Result) string {
	var b strings.Builder
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "  %-20s %s\n", s.Rule, s.Text)
	}
	fmt.Fprintf(&b, "  => %s %s -> %s:%d\n", r.Verdict, r.From, r.To, r.Port)
	return b.String()
}

// TestKernelAgrees asks the evaluator and a real kernel about the same packets, under the example policy and under random
// ones. EXPLAIN_POLICIES and EXPLAIN_SEED make more of them.
func TestKernelAgrees(t *testing.T) {
	policies, seed := 12, uint64(1)
	if v, err := strconv.Atoi(os.Getenv("EXPLAIN_POLICIES")); err == nil {
		policies = v
	}
	if v, err := strconv.ParseUint(os.Getenv("EXPLAIN_SEED"), 10, 64); err == nil {
		seed = v
	}
	var g *gateway
	var id uint32
	verdicts := map[Verdict]int{}
	for i := range policies {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		text := randomPolicy(rng)
		p, _, err := policy.Parse("random.yaml", []byte(text))
		if err != nil {
			t.Fatalf("policy %d: %v\n%s", i, err, text)
		}
		m, err := p.ForMember(1, nil)
		if err != nil {
			t.Fatal(err)
		}
		if g == nil {
			g = newGateway(t, m.Node) // all random policies have the same network
		}
		g.ns.Try(ruleset.Compile(m.Rules).Apply)
		for range 40 {
			id++
			pk, device := randomPacket(rng, m)
			if err := g.probe(m.Rules, pk, device, id|0x54000000); err != nil {
				t.Fatalf("seed %d, policy %d: %v\n%s", seed, i, err, text)
			}
			verdicts[Explain(m.Rules, pk).Verdict]++
		}
	}
	t.Logf("%d packets under %d policies: %v", id, policies, verdicts)
	for _, v := range []Verdict{Forwarded, Delivered, Dropped, Rejected} {
		if policies >= 12 && verdicts[v] == 0 {
			t.Errorf("no packet was %s: the test proves little", v)
		}
	}
}

// Pools that random policies and packets draw from, so that they meet.
var (
	zones    = []string{"lan", "dmz", "wan"}
	inside4  = []string{"10.1.0.10", "10.1.0.11", "10.1.0.20", "10.2.0.20", "10.2.0.21", "10.2.0.40", "10.9.1.1"}
	outside4 = []string{"192.0.2.50", "198.51.100.7", "198.51.100.130", "8.8.8.8"}
	own4     = []string{"10.1.0.1", "10.1.0.2", "192.0.2.1", "192.0.2.2", "10.2.0.1"}
	public4  = []string{"192.0.2.1", "203.0.113.1", "203.0.113.2", "203.0.113.9"}
	hosts6   = []string{"2001:db8:1::10", "2001:db8:2::50", "2001:db8:77::7"}
	nets     = []string{"10.1.0.0/24", "10.0.0.0/8", "10.2.0.16/28", "198.51.100.0/25", "10.1.0.10-10.1.0.20", "2001:db8:1::/64", "0.0.0.0/0", "2001:db8::/32"}
	services = []string{"tcp/80", "tcp/443", "tcp/8000-8100", "udp/53", "udp/5000-5010", "icmp", "icmp/echo-request", "icmpv6", "esp", "udp", "tcp/22"}
	ports    = []uint16{22, 53, 80, 443, 5005, 8050, 9999}
)

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// some gives up to n of a list, or nothing, as a YAML list with its key.
func some(rng *rand.Rand, key string, n int, lists ...[]string) string {
	if rng.IntN(3) == 0 {
		return ""
	}
	from := slices.Concat(lists...)
	var out []string
	for range 1 + rng.IntN(n) {
		if v := pick(rng, from); !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return fmt.Sprintf(", %s: [%q]", key, strings.Join(out, `", "`))
}

const base = `version: 1
name: random
cluster: {id: 9, members: [{id: 1, name: gw-a}, {id: 2, name: gw-b}]}
zones: [{name: lan}, {name: dmz, spoofing: allow}, {name: wan, ping: false}]
interfaces:
  - {name: G1, zone: lan, addresses: {1: 10.1.0.2/24, 2: 10.1.0.3/24}, addresses6: {1: "2001:db8:1::2/64", 2: "2001:db8:1::3/64"}, vips: [10.1.0.1]}
  - {name: G2, zone: wan, addresses: {1: 192.0.2.2/24, 2: 192.0.2.3/24}, addresses6: {1: "2001:db8:2::2/64", 2: "2001:db8:2::3/64"}, vips: [192.0.2.1], routed: [203.0.113.0/28]}
  - {name: G3, sync: true, addresses: {1: 169.254.77.1/30, 2: 169.254.77.2/30}}
  - {name: G4, zone: dmz, addresses: {1: 10.2.0.2/24, 2: 10.2.0.3/24}, vips: [10.2.0.1]}
  - {name: G5, addresses: {1: 10.5.0.2/24, 2: 10.5.0.3/24}}
routes:
  - {to: 0.0.0.0/0, via: 192.0.2.254}
  - {to: "::/0", via: "2001:db8:2::fe"}
  - {to: 10.9.0.0/16, via: 10.1.0.254}
`

// randomPolicy writes a policy. What the checks refuse is taken back, entry by entry.
func randomPolicy(rng *rand.Rand) string {
	nat, filter, management := "nat:\n", "filter:\n  rules:\n", "management:\n"
	good := func(extra string) bool {
		_, _, err := policy.Parse("random.yaml", []byte(base+extra))
		return err == nil
	}
	n := 0
	add := func(list *string, indent, format string, args ...any) {
		n++
		entry := fmt.Sprintf(indent+"- {name: r%d, "+format+"}\n", append([]any{n}, args...)...)
		if good(*list + entry) {
			*list += entry
		}
	}
	for range rng.IntN(8) {
		switch rng.IntN(6) {
		case 0:
			add(&nat, "  ", "type: exempt%s%s%s", some(rng, "from", 2, zones), some(rng, "source", 2, inside4, nets), some(rng, "destination", 2, outside4, public4))
		case 1, 2:
			to := pick(rng, inside4[:6])
			if rng.IntN(2) == 0 {
				to += ":8080"
			}
			add(&nat, "  ", "type: dnat, destination: [%s], to: %q, hairpin: %t%s%s", pick(rng, public4), to, rng.IntN(2) == 0, some(rng, "from", 2, zones), some(rng, "service", 2, services))
		case 3:
			add(&nat, "  ", "type: one-to-one, out: [G2], outside: 203.0.113.8/30, inside: 10.2.0.40/30, hairpin: %t", rng.IntN(2) == 0)
		case 4:
			add(&nat, "  ", "type: masquerade, out: [%s]%s%s%s", pick(rng, []string{"G1", "G2", "G4"}), some(rng, "from", 2, zones), some(rng, "source", 2, nets, hosts6), some(rng, "service", 2, services))
		default:
			add(&nat, "  ", "type: snat, out: [G2], to: %s, ports: %s%s%s%s", pick(rng, []string{"vip", "203.0.113.2", "203.0.113.2-203.0.113.5"}), pick(rng, []string{"keep", "random"}),
				some(rng, "from", 2, zones), some(rng, "source", 2, inside4, nets), some(rng, "service", 2, services))
		}
	}
	for range rng.IntN(3) { // runs that are folded
		for i := range 4 {
			add(&nat, "  ", "type: snat, from: [lan], out: [G2], source: [10.1.0.%d], to: 203.0.113.%d", 10+i*rng.IntN(3), 1+rng.IntN(14))
		}
		for range 4 {
			add(&nat, "  ", "type: dnat, from: [wan], destination: [%s], service: [tcp/%d], to: 10.2.0.%d", pick(rng, public4), pick(rng, ports), 20+rng.IntN(3))
		}
	}
	for range 2 + rng.IntN(14) {
		extra := ""
		switch rng.IntN(8) {
		case 0:
			extra = ", log: true"
		case 1:
			extra = ", limit: {rate: 1000/second, burst: 1000, per: " + pick(rng, []string{"rule", "source"}) + "}"
		}
		add(&filter, "    ", "action: %s%s%s%s%s%s%s", pick(rng, []string{"accept", "accept", "accept", "drop", "reject"}), some(rng, "from", 2, zones), some(rng, "to", 2, zones),
			some(rng, "source", 3, inside4, outside4, nets, hosts6), some(rng, "destination", 3, inside4, outside4, nets, hosts6), some(rng, "service", 3, services), extra)
	}
	for range rng.IntN(3) {
		action, shape := pick(rng, []string{"accept", "drop"}), rng.IntN(3)
		for range 3 + rng.IntN(4) {
			switch shape {
			case 0:
				add(&filter, "    ", "action: %s, from: [lan, dmz], to: [wan], source: [%s], service: [tcp/%d]", action, pick(rng, inside4), pick(rng, ports))
			case 1:
				add(&filter, "    ", "action: %s, source: [10.%d.0.0/%d], destination: [%s]", action, 1+rng.IntN(2), 16+8*rng.IntN(2), pick(rng, outside4))
			default:
				add(&filter, "    ", "action: %s, service: [tcp/%d-%d]", action, 1+rng.IntN(100), 400+rng.IntN(9000))
			}
		}
	}
	if rng.IntN(3) > 0 {
		add(&filter, "    ", "action: accept%s", some(rng, "from", 2, zones))
	}
	for range rng.IntN(4) {
		add(&management, "  ", "from: [%s], service: [%s], vips: %t%s", pick(rng, zones), pick(rng, []string{"ssh", "api", "ping", "udp/53", "tcp/80"}), rng.IntN(2) == 0, some(rng, "source", 2, nets))
	}
	helpers := "helpers:\n"
	for range rng.IntN(5) {
		add(&helpers, "  ", "protocol: %s, from: [%s], port: %d%s%s", pick(rng, []string{"ftp", "sip"}), pick(rng, zones), pick(rng, ports),
			some(rng, "source", 2, inside4, nets, hosts6), some(rng, "destination", 2, outside4, public4, nets))
	}
	out := base
	for _, list := range []string{nat, filter, management, helpers} {
		if strings.Contains(list, "{") {
			out += list
		}
	}
	if rng.IntN(2) == 0 {
		out = strings.Replace(out, "filter:\n", "filter:\n  log_dropped: true\n", 1)
	}
	return out
}

// randomPacket draws a packet and the device it comes to.
func randomPacket(rng *rand.Rand, m *policy.Member) (Packet, string) {
	for {
		p := Packet{Proto: pick(rng, []uint8{rules.TCP, rules.TCP, rules.UDP, rules.UDP, rules.ICMP, 50}), Type: 8}
		if rng.IntN(5) == 0 {
			p.From, p.To = netip.MustParseAddr(pick(rng, hosts6)), netip.MustParseAddr(pick(rng, append(hosts6, "2001:db8:1::2")))
			if p.Proto == rules.ICMP {
				p.Proto, p.Type = rules.ICMPv6, 128
			}
		} else {
			p.From = netip.MustParseAddr(pick(rng, slices.Concat(inside4, outside4)))
			p.To = netip.MustParseAddr(pick(rng, slices.Concat(inside4, outside4, own4, public4)))
		}
		if p.From == p.To {
			continue
		}
		if rules.HasPorts(p.Proto) {
			p.SourcePort, p.Port = uint16(20000+rng.IntN(40000)), pick(rng, ports)
		}
		in := m.Rules.Interface(m.Rules.Route(p.From))
		if in != nil && rng.IntN(6) == 0 || in == nil {
			in = &m.Rules.Interfaces[rng.IntN(len(m.Rules.Interfaces))]
			p.In = in.Name
		}
		return p, pick(rng, in.Devices)
	}
}

func checksum(sum uint32, b []byte) uint32 {
	for i := 0; i < len(b); i += 2 {
		if i+1 < len(b) {
			sum += uint32(b[i])<<8 | uint32(b[i+1])
		} else {
			sum += uint32(b[i]) << 8
		}
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// frameOf is the packet on the wire, with id in its payload.
func frameOf(p Packet, mac []byte, id uint32) []byte {
	payload := binary.BigEndian.AppendUint32([]byte("twinkeep"), id)
	var l4 []byte
	at := 0
	switch p.Proto {
	case rules.TCP:
		l4 = make([]byte, 20)
		binary.BigEndian.PutUint32(l4[4:], id)
		l4[12], l4[13], at = 5<<4, 0x02, 16
	case rules.UDP:
		l4 = make([]byte, 8)
		binary.BigEndian.PutUint16(l4[4:], uint16(8+len(payload)))
		at = 6
	case rules.ICMP, rules.ICMPv6:
		l4 = []byte{byte(p.Type), 0, 0, 0, byte(id >> 8), byte(id), 0, 1}
		at = 2
	}
	if rules.HasPorts(p.Proto) {
		binary.BigEndian.PutUint16(l4, p.SourcePort)
		binary.BigEndian.PutUint16(l4[2:], p.Port)
	}
	l4 = append(l4, payload...)
	if at > 0 {
		sum := uint32(0)
		if p.Proto != rules.ICMP {
			sum = checksum(checksum(uint32(p.Proto)+uint32(len(l4)), p.From.AsSlice()), p.To.AsSlice())
		}
		binary.BigEndian.PutUint16(l4[at:], fold(checksum(sum, l4)))
	}
	frame := append(append([]byte{}, mac...), 2, 0, 0, 0, 0, 9)
	if p.From.Is6() {
		frame = append(frame, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(l4)), p.Proto, 64)
		return append(append(append(frame, p.From.AsSlice()...), p.To.AsSlice()...), l4...)
	}
	ip := []byte{0x45, 0, 0, byte(20 + len(l4)), 0, 1, 0, 0, 64, p.Proto, 0, 0}
	ip = append(append(ip, p.From.AsSlice()...), p.To.AsSlice()...)
	binary.BigEndian.PutUint16(ip[10:], fold(checksum(0, ip)))
	return append(append(append(frame, 0x08, 0x00), ip...), l4...)
}

// parse finds the packet with the id in a frame that came out: not an answer or an error about it.
func parse(frame []byte, id uint32) (s seen, ok bool) {
	mark := binary.BigEndian.AppendUint32([]byte("twinkeep"), id)
	if len(frame) < 14+20+len(mark) || !strings.HasSuffix(string(frame), string(mark)) {
		return s, false
	}
	var l4 []byte
	proto := byte(0)
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		s.from, s.to = netip.AddrFrom4([4]byte(frame[26:30])), netip.AddrFrom4([4]byte(frame[30:34]))
		proto, l4 = frame[23], frame[34:]
	case 0x86dd:
		s.from, s.to = netip.AddrFrom16([16]byte(frame[22:38])), netip.AddrFrom16([16]byte(frame[38:54]))
		proto, l4 = frame[20], frame[54:]
	default:
		return s, false
	}
	switch {
	case rules.HasPorts(proto):
		s.port = binary.BigEndian.Uint16(l4[2:])
	case proto == rules.ICMP && l4[0] != 8, proto == rules.ICMPv6 && l4[0] != 128:
		return s, false // the gateway's own answer
	}
	return s, true
}
