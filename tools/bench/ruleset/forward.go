package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/twinkeep/twinkeep/firmware/ruleset"
)

// path is client - gateway - server; the gateway's rules are what is measured.
type path struct{ client, gateway, server namespace }

func newPath() (p path, err error) {
	for _, x := range []struct {
		ns   *namespace
		role string
	}{{&p.client, "client"}, {&p.gateway, "gateway"}, {&p.server, "server"}} {
		if *x.ns, err = newNamespace(x.role); err != nil {
			return p, err
		}
	}
	steps := []struct {
		ns   namespace
		line string
	}{
		{p.gateway, "link add G1 type veth peer name eth0 netns " + string(p.client)},
		{p.gateway, "link add G2 type veth peer name eth0 netns " + string(p.server)},
		{p.gateway, "addr add 10.0.0.2/8 dev G1"}, {p.gateway, "addr add 192.0.2.2/24 dev G2"}, {p.gateway, "addr add 192.0.2.1/32 dev G2"},
		{p.client, "addr add 10.1.0.5/8 dev eth0"}, {p.server, "addr add 192.0.2.50/24 dev eth0"},
		{p.gateway, "link set G1 up"}, {p.gateway, "link set G2 up"}, {p.client, "link set eth0 up"}, {p.server, "link set eth0 up"},
		{p.client, "route add default via 10.0.0.2"}, {p.server, "route add default via 192.0.2.2"},
	}
	for _, s := range steps {
		if err := s.ns.ip(s.line); err != nil {
			return p, err
		}
	}
	return p, p.gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
}

func (p path) remove() {
	for _, n := range []namespace{p.client, p.gateway, p.server} {
		n.remove()
	}
}

// byHand is what an administrator would write for the same: answers, lan to wan, source NAT.
const byHand = `table inet byhand {
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		iifname "G1" oifname "G2" accept
	}
	chain post {
		type nat hook postrouting priority srcnat;
		oifname "G2" ip saddr 10.0.0.0/8 snat ip to 192.0.2.1
	}
}
`

// silent keeps the server from answering.
const silent = `table inet silent {
	chain in {
		type filter hook prerouting priority raw; policy accept;
		udp dport 9 drop
	}
}
`

// contestant is one set of rules.
type contestant struct {
	name    string
	install func(gateway namespace) error
}

func nft(text string) func(namespace) error {
	return func(n namespace) error {
		dir, err := os.MkdirTemp("", "bench-ruleset")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		file := filepath.Join(dir, "rules.nft")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
		return n.run("nft", "-f", file)
	}
}

func twinkeep(extra string) func(namespace) error {
	return func(n namespace) error {
		r, err := parsed(header+extra, new([]float64), new([]float64))
		if err != nil {
			return err
		}
		return n.do(func() error {
			result, err := r.Install()
			if err == nil && (result.Fast || flowtables == ruleset.Result{}) {
				flowtables = result
			}
			return err
		})
	}
}

// flowtables is what an installation that wanted the fast path said about it.
var flowtables ruleset.Result

func contestants() []contestant {
	plain := "nat: [{name: out, type: snat, from: [lan], out: [G2], source: [10.0.0.0/8], to: vip}]\nfilter: {rules: [{name: out, from: [lan], to: [wan], action: accept}]}\n"
	many := func(n int) (policy, list string) {
		var p, l strings.Builder
		p.WriteString("nat: [{name: out, type: snat, from: [lan], out: [G2], source: [10.0.0.0/8], to: vip}]\nfilter:\n  rules:\n")
		l.WriteString(strings.Replace(byHand, "		iifname \"G1\" oifname \"G2\" accept\n", "		LIST\n", 1))
		var list2 strings.Builder
		for i := range n {
			fmt.Fprintf(&p, "    - {name: r%d, from: [lan], to: [wan], source: [10.2.%d.%d], destination: [198.51.100.7], service: [tcp/443], action: accept}\n", i, i>>8, i&255)
			fmt.Fprintf(&list2, "		iifname \"G1\" oifname \"G2\" ip saddr 10.2.%d.%d ip daddr 198.51.100.7 tcp dport 443 accept\n", i>>8, i&255)
		}
		p.WriteString("    - {name: out, from: [lan], to: [wan], action: accept}\n")
		list2.WriteString("		iifname \"G1\" oifname \"G2\" accept\n")
		return p.String(), strings.Replace(l.String(), "		LIST\n", list2.String(), 1)
	}
	policy1000, list1000 := many(1000)
	return []contestant{
		{"no rules, no conntrack", func(namespace) error { return nil }},
		{"by hand, 3 rules", nft(byHand)},
		{"Twinkeep, the same", twinkeep(plain)},
		{"Twinkeep, the same, flowtable off", twinkeep(strings.Replace(plain, "filter: {", "filter: {flowtable: false, ", 1))},
		{"by hand, 1,000 rules before the last", nft(list1000)},
		{"Twinkeep, the same", twinkeep(policy1000)},
	}
}

// rounds is how often every contestant is measured; in turns, so that what the machine does meanwhile meets all of them.
const rounds = 5

func forward(seconds time.Duration) error {
	all, senders := contestants(), []int{1, 40000}
	rates := make([][2][]float64, len(all))
	for round := range rounds + 1 {
		for i, c := range all {
			for j, ports := range senders {
				rate, err := measure(c, ports, seconds)
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				if round > 0 { // the first warms the machine up
					rates[i][j] = append(rates[i][j], rate)
				}
			}
		}
	}
	fmt.Printf("### Forwarding: packets a second through the gateway, one sender, 64 bytes of UDP; median (range) of %d, in turns\n\n", rounds)
	fmt.Println("| rules | one connection | a new connection every 4 packets |")
	fmt.Println("|---|---|---|")
	for i, c := range all {
		fmt.Printf("| %s | %s | %s |\n", c.name, middle(rates[i][0]), middle(rates[i][1]))
	}
	fmt.Println()
	if flowtables.Fast {
		fmt.Println("Established connections took the flowtable.")
	} else {
		fmt.Println("No flowtable: " + flowtables.Reason + ".")
	}
	return nil
}

func middle(rates []float64) string {
	slices.Sort(rates)
	return fmt.Sprintf("%.0f (%.0f..%.0f)", rates[len(rates)/2], rates[0], rates[len(rates)-1])
}

// measure counts what arrives at the server's NIC. Source ports 20000 to 20000+ports take turns, four packets each.
func measure(c contestant, ports int, seconds time.Duration) (float64, error) {
	p, err := newPath()
	defer p.remove()
	if err != nil {
		return 0, err
	}
	if err := c.install(p.gateway); err != nil {
		return 0, err
	}
	if err := p.gateway.run("sh", "-c", "sysctl -qw net.netfilter.nf_conntrack_max=1000000 2>/dev/null || true"); err != nil {
		return 0, err
	}
	if ports == 1 { // answered, so that it is established
		if err := p.greet(); err != nil {
			return 0, err
		}
	}
	// The server takes in what comes and answers nothing.
	if err := nft(silent)(p.server); err != nil {
		return 0, err
	}
	before, err := received(p.server)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := p.client.do(func() error { return send(ports, seconds) }); err != nil {
		return 0, err
	}
	took := time.Since(start)
	after, err := received(p.server)
	if after == before && err == nil {
		err = fmt.Errorf("nothing arrived")
	}
	return float64(after-before) / took.Seconds(), err
}

// greet exchanges datagrams on the connection that will be measured.
func (p path) greet() error {
	var server net.PacketConn
	if err := p.server.do(func() (err error) { server, err = net.ListenPacket("udp4", "192.0.2.50:9"); return err }); err != nil {
		return err
	}
	defer server.Close()
	return p.client.do(func() error {
		client, err := net.ListenPacket("udp4", "10.1.0.5:20000")
		if err != nil {
			return err
		}
		defer client.Close()
		buf := make([]byte, 64)
		for range 4 {
			if _, err := client.WriteTo([]byte("hello"), server.LocalAddr()); err != nil {
				return err
			}
			for _, hop := range []struct{ at, to net.PacketConn }{{server, client}, {client, nil}} {
				hop.at.SetReadDeadline(time.Now().Add(3 * time.Second))
				_, from, err := hop.at.ReadFrom(buf)
				if err != nil {
					return fmt.Errorf("greet: %w", err)
				}
				if hop.to != nil {
					if _, err := hop.at.WriteTo([]byte("hello"), from); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
}

func received(n namespace) (count uint64, err error) {
	return count, n.do(func() error {
		data, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			if name, rest, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == "eth0" {
				count, err = strconv.ParseUint(strings.Fields(rest)[1], 10, 64)
				return err
			}
		}
		return fmt.Errorf("no eth0")
	})
}

// send floods for a while, in batches of one system call.
func send(ports int, seconds time.Duration) error {
	const batch = 64
	if ports == 1 {
		c, err := net.ListenPacket("udp4", "10.1.0.5:20000")
		if err != nil {
			return err
		}
		defer c.Close()
		return flood(ipv4.NewPacketConn(c), batch, time.Now().Add(seconds))
	}
	end := time.Now().Add(seconds)
	for i := 0; time.Now().Before(end); i++ {
		c, err := net.ListenPacket("udp4", "10.1.0.5:"+strconv.Itoa(20000+i%ports))
		if err != nil {
			return err
		}
		_, err = ipv4.NewPacketConn(c).WriteBatch(messages(4), 0)
		c.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func flood(c *ipv4.PacketConn, batch int, end time.Time) error {
	list := messages(batch)
	for time.Now().Before(end) {
		if _, err := c.WriteBatch(list, 0); err != nil {
			return err
		}
	}
	return nil
}

func messages(n int) []ipv4.Message {
	out := make([]ipv4.Message, n)
	for i := range out {
		out[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 64)}, Addr: &net.UDPAddr{IP: net.IPv4(192, 0, 2, 50), Port: 9}}
	}
	return out
}
