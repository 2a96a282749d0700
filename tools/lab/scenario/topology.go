package scenario

import (
	"fmt"
	"net/netip"
	"strings"
	"text/template"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/ether"
)

// Topology is what a lab is made of.
type Topology struct {
	Segments []string // one switch each
	Hosts    []Host
}

// Host is one machine.
type Host struct {
	Name string // a, b, host, server
	Role string // for people
	Node string // its node file
	NICs []NIC  // in the order of their slots: the first is G1
}

// NIC plugs a machine into a segment.
type NIC struct {
	Segment string
	MAC     ether.MAC
	Addr    netip.Addr // its private address, as in the node file
}

// firstSlot is the slot of G1; the next NICs follow. The same on every machine, so that the gateways have the same
// PCI trees and thus the same NN and shared MACs.
const firstSlot = 4

// Port is the name of the switch port that a machine is plugged into, also of its capture.
func Port(segment, host string) string { return segment + "-" + host }

// Addresses of the demo. 192.0.2.0/24 is for documentation (RFC 5737) and plays the internet.
const (
	lanVIP     = "10.1.0.1"
	wanVIP     = "192.0.2.1"
	hostAddr   = "10.1.0.10"
	serverAddr = "192.0.2.254"
	clusterID  = 7
)

// Timing of the demo under TCG, where a machine stands still for tens of milliseconds at any time: ten times the
// product's defaults.
var Timing = struct{ Beat, Lease, Dead, Silence time.Duration }{
	100 * time.Millisecond, 450 * time.Millisecond, 700 * time.Millisecond, 3 * time.Second,
}

// demoKey is the cluster key of the lab. It protects nothing: it is public.
const demoKey = "bGFiLWxhYi1sYWItbGFiLWxhYi1sYWItbGFiLWxhYiE="

var gatewayNode = template.Must(template.New("gateway").Parse(`version: 1
hostname: gw-{{.Letter}}
board: auto
cluster:
  id: {{.Cluster}}
  name: lab
  member: {{.Member}}
  key: {{.Key}}
  mode: active-up
  checksums: invalid
  members:
    - {id: 1, name: gw-a, priority: 120}
    - {id: 2, name: gw-b, priority: 100}
  timing: {beat: {{.Timing.Beat}}, lease: {{.Timing.Lease}}, dead: {{.Timing.Dead}}, silence: {{.Timing.Silence}}}
interfaces:
  - name: G1
    zone: lan
    address: 10.1.0.{{.Last}}/24
    vips: [10.1.0.1]
  - name: G2
    zone: wan
    address: 192.0.2.{{.Last}}/24
    vips: [192.0.2.1]
  - name: G3
    sync: true
    address: 169.254.77.{{.Member}}/30
routes:
  - {to: 0.0.0.0/0, via: 192.0.2.254}
nat:
  - {from: [10.1.0.0/24], out: G2, to: vip, ports: keep}
`))

// hostNode is a node file without cluster: a machine that only uses the gateways.
const hostNode = `version: 1
hostname: %s
board: auto
interfaces:
  - name: G1
    zone: lan
    address: %s/24
`

const hostRoute = `routes:
  - {to: 0.0.0.0/0, via: %s}
`

func gateway(member int) (Host, error) {
	letter := string(rune('a' + member - 1))
	var b strings.Builder
	err := gatewayNode.Execute(&b, map[string]any{
		"Letter": letter, "Member": member, "Last": member + 1, "Cluster": clusterID, "Key": demoKey, "Timing": Timing,
	})
	if err != nil {
		return Host{}, fmt.Errorf("node file of gw-%s: %w", letter, err)
	}
	h := Host{Name: letter, Role: "gateway gw-" + letter, Node: b.String()}
	last := byte(member)
	for i, n := range []struct {
		segment string
		addr    [4]byte
	}{{"lan", [4]byte{10, 1, 0, last + 1}}, {"wan", [4]byte{192, 0, 2, last + 1}}, {"sync", [4]byte{169, 254, 77, last}}} {
		h.NICs = append(h.NICs, NIC{n.segment, ether.MAC{0x52, 0x54, 0, 0, last, byte(i + 1)}, netip.AddrFrom4(n.addr)})
	}
	return h, nil
}

// Pair is the lab of the demo: two gateways between a LAN host and a server in the WAN.
func Pair() (Topology, error) {
	a, err := gateway(1)
	if err != nil {
		return Topology{}, err
	}
	b, err := gateway(2)
	if err != nil {
		return Topology{}, err
	}
	return Topology{
		Segments: []string{"lan", "wan", "sync"},
		Hosts: []Host{
			a, b,
			{Name: "host", Role: "LAN host", Node: fmt.Sprintf(hostNode, "lan-host", hostAddr) + fmt.Sprintf(hostRoute, lanVIP),
				NICs: []NIC{{"lan", ether.MAC{0x52, 0x54, 0, 0, 0x10, 1}, netip.MustParseAddr(hostAddr)}}},
			{Name: "server", Role: "WAN server", Node: fmt.Sprintf(hostNode, "wan-server", serverAddr),
				NICs: []NIC{{"wan", ether.MAC{0x52, 0x54, 0, 0, 0x20, 1}, netip.MustParseAddr(serverAddr)}}},
		},
	}, nil
}
