package node

import (
	"net/netip"
	"time"
)

// Node is a checked node file with all defaults filled in.
type Node struct {
	Version  int    `json:"version"`         // format of the file, 1
	Hostname string `json:"hostname"`        // one DNS label (RFC 1123, section 2.1)
	Board    string `json:"board,omitempty"` // name of a board file, or "auto" to find it by DMI; empty means none
	// Cluster is nil on a standalone host.
	Cluster    *Cluster    `json:"cluster,omitempty"`
	Interfaces []Interface `json:"interfaces"`
	Routes     []Route     `json:"routes,omitempty"`
	NAT        []NAT       `json:"nat,omitempty"`
	Helpers    []Helper    `json:"helpers,omitempty"`
	Monitors   []Monitor   `json:"monitors,omitempty"`
	// Registration is the name of the interface that the licence is bound to; empty: the one with the licence's MAC.
	Registration string `json:"registration,omitempty"`
	SSH          SSH    `json:"ssh,omitzero"`
	API          API    `json:"api,omitzero"`
}

// API is the API over the network. The zero value is the default: none.
type API struct {
	Port uint16 `json:"port,omitempty"` // TCP; 0: there is none
}

// SSH is the console over the network. The zero value is the default: on, at port 22.
type SSH struct {
	Off  bool   `json:"off,omitempty"`
	Port uint16 `json:"port,omitempty"` // TCP; 0 is DefaultSSHPort
}

// Listen is the TCP port to listen on, 0 for none.
func (s SSH) Listen() uint16 {
	switch {
	case s.Off:
		return 0
	case s.Port == 0:
		return DefaultSSHPort
	}
	return s.Port
}

// Cluster says who this member is and whom it shares addresses with.
type Cluster struct {
	ID        uint8     `json:"id"`     // 1..255, unique among the clusters that share a LAN: it is the MM of the shared MAC
	Name      string    `json:"name"`   // for people
	Member    uint8     `json:"member"` // this member, 1..8, or witness, 9..11
	Key       Key       `json:"-"`      // authenticates every heartbeat
	KeyFile   string    `json:"key_file,omitempty"`
	Mode      Mode      `json:"mode"`
	Checksums Checksums `json:"checksums"`
	Members   []Member  `json:"members"` // all of them, this one too
	// Witnesses only judge. With one the role needs a majority of members and witnesses.
	Witnesses []Witness `json:"witnesses,omitempty"`
	Defer     bool      `json:"defer,omitempty"`  // hold the first packet of a connection until the standbys have it
	Safety    bool      `json:"safety,omitempty"` // demand that majority without a witness as well
	Lock      bool      `json:"lock,omitempty"`   // after an unplanned takeover the role stays until an operator clears the lock
	Timing    Timing    `json:"timing"`
}

// Key is the cluster key. It never prints itself.
type Key [KeySize]byte

// KeySize is the length of a cluster key in bytes.
const KeySize = 32

// String hides the key: a log line must not give it away.
func (Key) String() string { return redacted }

// GoString hides the key from %#v.
func (Key) GoString() string { return redacted }

// IsZero reports whether the key was never set.
func (k Key) IsZero() bool { return k == Key{} }

// Mode says who holds the role when more than one member is fit.
type Mode string

// ModeActiveUp leaves the role with the member that has it: a recovered member stays standby.
const ModeActiveUp Mode = "active-up"

// ModePrimaryUp gives the role back to the member with the highest priority, once that is fit and in sync again.
const ModePrimaryUp Mode = "primary-up"

// Checksums says how the IP and UDP checksums of heartbeats are sent.
type Checksums string

const (
	// ChecksumsInvalid sends wrong checksums, so that no router forwards a heartbeat.
	ChecksumsInvalid Checksums = "invalid"
	// ChecksumsValid sends right ones, for bridges and NICs that drop bad frames.
	ChecksumsValid Checksums = "valid"
)

// Member is one entry of the cluster's member list.
type Member struct {
	ID       uint8  `json:"id"`       // 1..8
	Name     string `json:"name"`     // unique in the cluster
	Priority uint8  `json:"priority"` // 1..255; the highest is the designated master, the lowest ID breaks a tie
}

// MaxMembers is the highest ID of a member, MaxWitness that of a witness.
const (
	MaxMembers = 8
	MaxWitness = 11
)

// Witness is one entry of the cluster's list of witnesses.
type Witness struct {
	ID   uint8  `json:"id"`   // 9..11
	Name string `json:"name"` // unique among members and witnesses
	// Address is where a witness behind routers takes heartbeats; not valid when it is on the members' links.
	Address netip.Addr `json:"address,omitzero"`
}

// Quorum reports whether the role needs a majority of members and witnesses.
func (c *Cluster) Quorum() bool { return c.Safety || len(c.Witnesses) > 0 }

// Judges reports whether this box is a witness.
func (c *Cluster) Judges() bool { return c.Member > MaxMembers }

// Routed reports whether this box is a witness that takes heartbeats over routers.
func (c *Cluster) Routed() bool {
	for _, w := range c.Witnesses {
		if w.ID == c.Member && w.Address.IsValid() {
			return true
		}
	}
	return false
}

// Timing of the heartbeats. 2·Beat <= Lease < Dead <= Silence holds in every checked file: a member that stops
// sending is silent before its peers act on it.
type Timing struct {
	Beat    time.Duration `json:"beat"`    // between two heartbeats, at least MinBeat
	Lease   time.Duration `json:"lease"`   // life of the gate after the last heartbeat, at least MinLease
	Dead    time.Duration `json:"dead"`    // silence after which a peer is gone
	Silence time.Duration `json:"silence"` // listening time after start
}

// Limits of Timing. The lease is kept by kernel timers that count jiffies (4 ms at HZ=250), and 12 ms was the
// shortest that held under load (docs: reference measurements of the gate).
const (
	MinBeat   = time.Millisecond
	MinLease  = 12 * time.Millisecond
	MaxTiming = time.Minute
)

// Zone is what the ruleset knows an interface as.
type Zone string

// Zones. Traffic is forwarded from lan to wan; wan reaches no service of the box.
const (
	ZoneNone Zone = ""
	ZoneLAN  Zone = "lan"
	ZoneWAN  Zone = "wan"
)

// Interface is one NIC.
type Interface struct {
	Name        string `json:"name"`            // from the board file, at most MaxName bytes
	Device      string `json:"device"`          // kernel device; the same as Name unless given
	Zone        Zone   `json:"zone,omitempty"`  // empty: nothing is forwarded from or to it
	Sync        bool   `json:"sync,omitempty"`  // the link between the members
	Place       string `json:"place,omitempty"` // PCI place by hand, in a form nic.ParsePlace takes, e.g. "0/5/0"
	NN          *uint8 `json:"nn,omitempty"`    // NN of the shared MAC by hand
	VIPs        []VIP  `json:"vips,omitempty"`  // shared addresses, IPv4 and IPv6
	Beats       bool   `json:"heartbeat"`       // heartbeats are sent and expected here
	VIPsOutside bool   `json:"vips_outside"`    // VIPs may lie outside the interface's subnets
	Number      uint8  `json:"number"`          // 1..MaxInterfaces, the same on all members for the same network; by default the place in the list
	// Address and Address6 are this member's private addresses with their subnets; not valid when not given.
	Address  netip.Prefix `json:"address,omitzero"`
	Address6 netip.Prefix `json:"address6,omitzero"`
	VLAN     *VLAN        `json:"vlan,omitempty"` // from the policy only: the device is made on another interface
}

// VLAN is an IEEE 802.1Q tag on another interface.
type VLAN struct {
	Parent string `json:"parent"` // name of the interface that carries it
	ID     uint16 `json:"id"`     // 1..4094
}

// MaxInterfaces is the most interfaces of one member.
const MaxInterfaces = 29

// VIP is a shared address. It is answered with the shared MAC, by the active member only.
type VIP = netip.Addr

// MaxName is the longest interface name and device: the macvlan is called like the device with VIPSuffix behind
// it, and Linux ends device names at 15 bytes (IFNAMSIZ less the NUL).
const MaxName = 15 - len(VIPSuffix)

// VIPSuffix makes the name of the macvlan that carries an interface's VIPs.
const VIPSuffix = "-vip"

// VIPDevice is the macvlan that carries the VIPs.
func (i *Interface) VIPDevice() string { return i.Device + VIPSuffix }

// VIP4 is the first IPv4 VIP, not valid when there is none.
func (i *Interface) VIP4() netip.Addr {
	for _, v := range i.VIPs {
		if v.Is4() {
			return v
		}
	}
	return netip.Addr{}
}

// Prefixes are the private addresses that are given.
func (i *Interface) Prefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []netip.Prefix{i.Address, i.Address6} {
		if p.IsValid() {
			out = append(out, p)
		}
	}
	return out
}

// Reaches reports whether a is in one of the interface's subnets, so that no router stands between.
func (i *Interface) Reaches(a netip.Addr) bool {
	for _, p := range i.Prefixes() {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Interface finds an interface by name; nil when there is none.
func (n *Node) Interface(name string) *Interface {
	for i := range n.Interfaces {
		if n.Interfaces[i].Name == name {
			return &n.Interfaces[i]
		}
	}
	return nil
}

// Route sends traffic for To through the router Via, which is in the subnet of an interface.
type Route struct {
	To  netip.Prefix `json:"to"`
	Via netip.Addr   `json:"via"`
}

// NAT rewrites the source of connections that leave through an interface. IPv4 only.
type NAT struct {
	From  []netip.Prefix `json:"from"` // sources; none means all
	Out   string         `json:"out"`  // name of the interface
	To    Target         `json:"to"`
	Addr  netip.Addr     `json:"addr,omitzero"` // with TargetIP
	Ports Ports          `json:"ports"`
}

// Helper has the kernel read along in connections from lan of a protocol that announces further ones, and let those pass.
type Helper struct {
	Protocol string `json:"protocol"` // ftp or sip
	Port     uint16 `json:"port"`     // TCP for ftp, UDP for sip
}

// Target says which source address NAT gives.
type Target string

const (
	// TargetVIP is the first IPv4 VIP of the interface: connections survive a takeover.
	TargetVIP Target = "vip"
	// TargetAddress is the private address of the interface.
	TargetAddress Target = "address"
	// TargetIP is an address written in the file.
	TargetIP Target = "ip"
)

// Ports says how NAT chooses source ports.
type Ports string

const (
	// PortsKeep keeps the client's port where it is free.
	PortsKeep Ports = "keep"
	// PortsRandom chooses every port at random (NF_NAT_RANGE_PROTO_RANDOM_FULLY).
	PortsRandom Ports = "random"
)

// Monitor watches hosts; when more than half of them stop answering, this member is unfit.
type Monitor struct {
	Name     string        `json:"name"` // unique
	Hosts    []netip.Addr  `json:"hosts"`
	Probe    Probe         `json:"probe"`
	Port     uint16        `json:"port,omitempty"` // with ProbeTCP
	Interval time.Duration `json:"interval"`       // between two probes of a host, MinProbe..1m
	Loss     int           `json:"loss"`           // unanswered probes in a row after which a host is down, 1..1000
	Grace    time.Duration `json:"grace"`          // after the start, nothing is a problem for so long
}

// Probe says how a monitor asks a host.
type Probe string

const (
	// ProbeICMP sends echo requests.
	ProbeICMP Probe = "icmp"
	// ProbeTCP opens connections to a port.
	ProbeTCP Probe = "tcp"
	// ProbeARP asks for the Ethernet address; the host must be on the link.
	ProbeARP Probe = "arp"
)

// MinProbe is the shortest interval of a monitor.
const MinProbe = 50 * time.Millisecond
