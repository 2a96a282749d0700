// Package topology builds the network that a pair of gateways is measured in, out of network namespaces:
//
//	client ── lan ──┬── gw-a ──┬── wan ── server
//	                └── gw-b ──┘
//	         gw-a ── sync ── gw-b
//
// lan and wan are bridges in a namespace of their own, the switch; sync is a veth between the gateways. The
// network is the same for every system under test. NICs outlive a gateway as they do in a rack: power off takes
// everything else from it, and boot gives it back empty.
package topology
