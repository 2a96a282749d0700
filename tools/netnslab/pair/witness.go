package pair

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// WitnessAddress is where a witness elsewhere is found, beyond the server that routes to it.
const WitnessAddress = "203.0.113.9"

// QuorumTiming is the timing where the role needs a majority: votes outlive a stall of a busy machine under test by
// dead - lease - beat.
const QuorumTiming = "{beat: 20ms, lease: 150ms, dead: 500ms, silence: 1s}"

// Extend adds lines to the cluster section of every member's node file.
func (p *Pair) Extend(lines ...string) {
	p.t.Helper()
	for i, m := range []*Member{p.A, p.B} {
		m.WriteNode(Extended(i+1, lines...))
	}
}

// Extended is [NodeFile] with more lines in the cluster section, and QuorumTiming.
func Extended(id int, lines ...string) string {
	return strings.NewReplacer("  name: test\n", "  name: test\n  "+strings.Join(lines, "\n  ")+"\n", Timing, QuorumTiming).Replace(NodeFile(id))
}

// AddWitness makes witness 9 on the LAN, and names it in the members' files. lines are added to all files.
func (p *Pair) AddWitness(lines ...string) {
	p.t.Helper()
	lines = append([]string{"witnesses: [{id: 9, name: gw-w}]"}, lines...)
	p.W = p.member("w", "lan")
	p.Extend(lines...)
	text := Extended(1, lines...)
	text = text[:strings.Index(text, "interfaces:")]
	text = strings.Replace(strings.Replace(text, "member: 1\n", "member: 9\n", 1), "hostname: gw-a", "hostname: gw-w", 1)
	p.W.WriteNode(text + "interfaces:\n  - {name: lan, address: 10.1.0.9/24, place: 0/3/0}\n")
}

// AddThird makes member 3 on all networks, with a lower priority than the two. lines are added to all files.
func (p *Pair) AddThird(lines ...string) {
	p.t.Helper()
	p.C = p.member("c", "lan", "wan", "sync")
	wider := strings.NewReplacer("    - {id: 2, name: gw-b, priority: 100}\n", "    - {id: 2, name: gw-b, priority: 100}\n    - {id: 3, name: gw-c, priority: 90}\n", "/30", "/29")
	lines = append([]string{"mode: active-up"}, lines...)
	for i, m := range []*Member{p.A, p.B, p.C} {
		m.WriteNode(wider.Replace(Extended(i+1, lines...)))
	}
}

// AddRoutedWitness makes witness 9 behind the server, which routes. The members reach it through the WAN.
func (p *Pair) AddRoutedWitness(lines ...string) {
	p.t.Helper()
	lines = append([]string{"witnesses: [{id: 9, name: gw-w, address: " + WitnessAddress + "}]"}, lines...)
	p.W = p.member("w")
	p.ServerNS.Run("ip", "link", "add", "far", "type", "veth", "peer", "name", "eth0", "netns", p.W.NS.Name)
	p.ServerNS.IP("link set far up")
	p.ServerNS.IP("addr add 203.0.113.1/24 dev far")
	p.ServerNS.Run("sysctl", "-qw", "net.ipv4.ip_forward=1")
	p.W.NS.IP("link set eth0 up")
	p.W.NS.IP("addr add " + WitnessAddress + "/24 dev eth0")
	p.W.NS.IP("route add default via 203.0.113.1")
	for i, m := range []*Member{p.A, p.B} {
		m.WriteNode(Extended(i+1, lines...) + "routes:\n  - {to: 203.0.113.0/24, via: " + Server + "}\n")
	}
	text := Extended(1, lines...)
	text = text[:strings.Index(text, "interfaces:")]
	p.W.WriteNode(strings.Replace(strings.Replace(text, "member: 1\n", "member: 9\n", 1), "hostname: gw-a", "hostname: gw-w", 1))
	p.W.args = []string{"witness", "--config", filepath.Join(p.W.Dir, "node.yaml")}
}

// StartAll starts the witness and both members, and waits until A is active, B on standby and all votes are there.
func (p *Pair) StartAll() {
	p.t.Helper()
	p.W.Start()
	p.StartBoth()
	p.Wait("all votes for A", func() bool {
		q := p.A.Status().Quorum
		return q != nil && q.Support == q.Voters
	})
}

// Cut parts the switch: nothing passes between a port of one group and one of another. Ports of nobody named, such as
// the client's, hear all. Each group names owners, e.g. "a", "w".
func (p *Pair) Cut(groups ...[]string) {
	p.t.Helper()
	p.Heal()
	var rules strings.Builder
	rules.WriteString("add table bridge cut; add chain bridge cut c { type filter hook forward priority 0; };")
	for i, from := range groups {
		for j, to := range groups {
			if i != j {
				fmt.Fprintf(&rules, " add rule bridge cut c iifname { %s } oifname { %s } drop;", p.ports(from), p.ports(to))
			}
		}
	}
	p.Switch.Run("nft", rules.String())
}

// Heal undoes Cut.
func (p *Pair) Heal() {
	exec.Command("ip", "netns", "exec", p.Switch.Name, "nft", "delete", "table", "bridge", "cut").Run() // there may be none
}

// ports lists the switch ports of owners for nft.
func (p *Pair) ports(owners []string) string {
	var out []string
	for _, o := range owners {
		for _, nic := range []string{"lan", "wan", "sync"} {
			out = append(out, fmt.Sprintf("%q", Port(o, nic)))
		}
	}
	return strings.Join(out, ", ")
}
