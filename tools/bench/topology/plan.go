package topology

import (
	"fmt"
	"net/netip"
)

// Devices of a gateway, as named inside its namespace.
const (
	LAN  = "lan"
	WAN  = "wan"
	Sync = "sync"
)

// The address plan.
var (
	LANPrefix = netip.MustParsePrefix("10.71.1.0/24")
	LANVIP    = netip.MustParseAddr("10.71.1.1")
	WANVIP    = netip.MustParseAddr("10.71.2.1")
	Client    = netip.MustParseAddr("10.71.1.10")
	Server    = netip.MustParseAddr("10.71.2.10")
)

// Members is the number of gateways in a pair.
const Members = 2

// Address is the private address, with its subnet, of gateway i (0 or 1) on one of its devices.
func Address(i int, device string) netip.Prefix {
	switch device {
	case LAN:
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 71, 1, byte(2 + i)}), 24)
	case WAN:
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 71, 2, byte(2 + i)}), 24)
	default:
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 71, 3, byte(1 + i)}), 30)
	}
}

// mac is a locally administered address that is different for every NIC of the topology.
func mac(network, host int) string { return fmt.Sprintf("02:71:%02x:00:00:%02x", network, host) }

// group is the link group of gateway i's lan and wan ports in the switch, and of sync in its own namespace: one
// netlink message takes a whole group down.
func group(i int) int { return 101 + i }

// switchScript makes the two bridges, and the cables to the client and the server.
func switchScript(client, server Namespace) []string {
	var lines []string
	for _, bridge := range []string{LAN, WAN} {
		lines = append(lines,
			"link add "+bridge+" type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
			"link set "+bridge+" up")
	}
	for _, h := range []struct {
		bridge, port string
		ns           Namespace
		network      int
	}{{LAN, "client", client, 1}, {WAN, "server", server, 2}} {
		lines = append(lines,
			fmt.Sprintf("link add %s address %s type veth peer name eth0 address %s netns %s", h.port, mac(h.network, 0xf0), mac(h.network, 10), h.ns),
			fmt.Sprintf("link set %s master %s up", h.port, h.bridge))
	}
	return lines
}

// portName is the switch's end of a gateway's cable.
func portName(i int, device string) string { return fmt.Sprintf("%s-%c", device, 'a'+i) }

// cableScript, run in the switch, plugs gateway i into both bridges.
func cableScript(i int, gateway Namespace) []string {
	var lines []string
	for network, device := range []string{LAN, WAN} {
		port := portName(i, device)
		lines = append(lines,
			fmt.Sprintf("link add %s address %s type veth peer name %s address %s netns %s",
				port, mac(network+1, 0xe0+i), device, mac(network+1, 2+i), gateway),
			fmt.Sprintf("link set %s master %s group %d up", port, device, group(i)))
	}
	return lines
}
