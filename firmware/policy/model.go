package policy

import (
	"net/netip"
	"time"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
	"github.com/twinkeep/twinkeep/firmware/yamldoc"
)

// The tags of the model are the grammar: key is the name in the document, need marks what must be there, as chooses
// another notation than that of the Go type, enum lists the words, min and max bound a number, doc is the text of the
// schema. Defaults are in defaults.go.

// Policy is one checked document.
type Policy struct {
	Version     int        `key:"version" need:"yes" min:"1" max:"1" doc:"Format of the document."`
	Name        string     `key:"name" need:"yes" as:"name" doc:"Name of the policy, e.g. that of the site."`
	Description string     `key:"description" as:"text" doc:"For people."`
	Cluster     *Cluster   `key:"cluster" need:"yes" doc:"The members and how they keep one role."`
	Zones       []Zone     `key:"zones" need:"yes" doc:"Groups of interfaces that rules speak of."`
	Interfaces  []NIC      `key:"interfaces" need:"yes" doc:"Interfaces of every member, with private and shared addresses."`
	Routes      []Route    `key:"routes" doc:"Static routes."`
	Objects     Objects    `key:"objects" doc:"Named groups of addresses and services."`
	NAT         []NAT      `key:"nat" doc:"Address translation. The first entry that matches a new connection decides, for its source and for its destination."`
	Filter      Filter     `key:"filter" doc:"What passes through the gateway. Nothing passes that no rule accepts; answers to what was accepted always do."`
	Helpers     []Helper   `key:"helpers" doc:"Connections in which the kernel reads along, so that NAT and the filter know the further ones that their protocol announces. None by default."`
	Management  []Access   `key:"management" doc:"Who may reach the gateway itself."`
	Services    Services   `key:"services" doc:"Ports of the gateway's own services."`
	Monitors    []Monitor  `key:"monitors" doc:"Hosts beyond the links; a member that cannot reach them is unfit."`
	source      *positions // where everything stood
}

// Cluster has the HA settings.
type Cluster struct {
	ID        uint8           `key:"id" need:"yes" min:"1" max:"255" doc:"Unique among the clusters that share a LAN; the node file must have the same."`
	Name      string          `key:"name" as:"text" doc:"For people."`
	Mode      node.Mode       `key:"mode" enum:"active-up,primary-up" doc:"Who holds the role when more than one member is fit: whoever has it, or the highest priority."`
	Checksums node.Checksums  `key:"checksums" enum:"invalid,valid" doc:"Checksums of heartbeats: wrong ones keep routers from forwarding them."`
	Members   []ClusterMember `key:"members" need:"yes" doc:"All members, 1 to 8."`
	Timing    Timing          `key:"timing" doc:"Times of the heartbeats."`
	Lock      Lock            `key:"lock" doc:"What a member that took over without a plan keeps to itself."`
	Prefer    Preference      `key:"prefer" enum:"availability,safety" doc:"What a member does that hears no other: serve, or stay silent without a majority."`
	Defer     bool            `key:"defer" doc:"Hold the first packet of each connection back until the standbys in sync have the connection, 20 ms at most."`
	Witness   *Witness        `key:"witness" doc:"A member that only judges; it gives two members a majority."`
}

// ClusterMember is one entry of the member list.
type ClusterMember struct {
	ID       uint8  `key:"id" need:"yes" min:"1" max:"8" doc:"1 to 8."`
	Name     string `key:"name" need:"yes" as:"label" doc:"Host name."`
	Priority uint8  `key:"priority" min:"1" max:"255" doc:"The highest is the designated master."`
}

// Timing of the heartbeats; the rules are those of the node file.
type Timing struct {
	Beat    time.Duration `key:"beat" doc:"Between two heartbeats of an interface."`
	Lease   time.Duration `key:"lease" doc:"How long the gate stays open after the last heartbeat; lease + beat is shorter than dead."`
	Dead    time.Duration `key:"dead" doc:"Silence after which a peer is taken for dead."`
	Silence time.Duration `key:"silence" doc:"How long a member listens after its start; at least two times dead."`
}

// Lock says whether a takeover without a plan fixes the role.
type Lock struct {
	After  LockAfter `key:"after" enum:"never,failover" doc:"failover: the new active keeps the role until the lock is cleared."`
	Resume Resume    `key:"resume" enum:"manual,automatic" doc:"Who lets a returning member overwrite what never reached its peer."`
}

// LockAfter is when the cluster locks.
type LockAfter string

// Resume is who resumes the sync.
type Resume string

// Preference is what counts more in doubt.
type Preference string

// Words of Lock and Prefer.
const (
	LockNever          LockAfter  = "never"
	LockFailover       LockAfter  = "failover"
	ResumeManual       Resume     = "manual"
	ResumeAutomatic    Resume     = "automatic"
	PreferAvailability Preference = "availability"
	PreferSafety       Preference = "safety"
)

// Witness is where the witness is reached.
type Witness struct {
	Address netip.Addr `key:"address" need:"yes" doc:"Its IP address; it takes heartbeats on UDP port 999."`
}

// Zone is a group of interfaces.
type Zone struct {
	Name     string         `key:"name" need:"yes" as:"name" doc:"Name that rules use."`
	Ping     bool           `key:"ping" doc:"The gateway answers echo requests from here, on shared addresses too."`
	Spoofing Spoofing       `key:"spoofing" enum:"drop,allow" doc:"What happens to packets whose source is not behind this zone by the routes."`
	Sources  []netip.Prefix `key:"sources" as:"network" doc:"More networks behind this zone that no route of the policy shows."`
}

// Spoofing says what happens to spoofed sources.
type Spoofing string

// Words of Spoofing.
const (
	SpoofingDrop  Spoofing = "drop"
	SpoofingAllow Spoofing = "allow"
)

// NIC is one interface of every member.
type NIC struct {
	Name       string                 `key:"name" need:"yes" as:"device" doc:"Name from the board file, or of a VLAN."`
	Zone       string                 `key:"zone" as:"name" doc:"Its zone; without one nothing passes."`
	Sync       bool                   `key:"sync" doc:"The link between the members."`
	Addresses  map[uint8]netip.Prefix `key:"addresses" as:"host4" doc:"Private IPv4 address of every member, by its ID."`
	Addresses6 map[uint8]netip.Prefix `key:"addresses6" as:"host6" doc:"Private IPv6 address of every member, by its ID."`
	VIPs       []netip.Addr           `key:"vips" doc:"Shared addresses, served by the active member."`
	Outside    bool                   `key:"vips_outside" doc:"Shared addresses may lie outside the subnets."`
	Routed     []netip.Prefix         `key:"routed" as:"network" doc:"Networks that the routers there send to this cluster, for NAT."`
	VLAN       *VLAN                  `key:"vlan" doc:"The interface is a VLAN of another one."`
	Heartbeat  bool                   `key:"heartbeat" doc:"Heartbeats are sent and expected here; never on a VLAN."`
	Device     string                 `key:"device" as:"device" doc:"Kernel device where there is no board file."`
	Place      string                 `key:"place" as:"place" doc:"PCI place where there is no PCI."`
	NN         *uint8                 `key:"nn" min:"0" max:"255" doc:"NN of the shared MAC, where there is no PCI place."`
}

// VLAN is an IEEE 802.1Q tag on another interface.
type VLAN struct {
	Parent string `key:"parent" need:"yes" as:"device" doc:"The interface that carries it."`
	ID     uint16 `key:"id" need:"yes" min:"1" max:"4094" doc:"VLAN ID."`
}

// Route is a static route.
type Route struct {
	To  netip.Prefix `key:"to" need:"yes" as:"network" doc:"Network; 0.0.0.0/0 is the default route."`
	Via netip.Addr   `key:"via" need:"yes" doc:"Router, in the subnet of an interface."`
}

// Objects are named groups.
type Objects struct {
	Addresses Groups[Address] `key:"addresses" doc:"Name: list of addresses, networks, ranges and names of other groups."`
	Services  Groups[Service] `key:"services" doc:"Name: list of services and names of other groups."`
}

// Groups are named lists, in the order of the document.
type Groups[T any] []Group[T]

// Group is one named list.
type Group[T any] struct {
	Name  string
	Items []T
}

// Address is an address, a network, a range, or the name of a group.
type Address struct {
	Name  string // of a group; then Range is empty
	Range rules.Range
}

// Service is a protocol with its ports or ICMP type, or the name of a group.
type Service struct {
	Name string // of a group; then Service is empty
	rules.Service
}

// NATType says what an entry of NAT does.
type NATType string

// Types of NAT.
const (
	Masquerade NATType = "masquerade" // source becomes the interface's own address
	SourceNAT  NATType = "snat"       // source becomes an address or one of a pool
	DestNAT    NATType = "dnat"       // destination and port become others: port forward
	OneToOne   NATType = "one-to-one" // both directions, address by address
	Exempt     NATType = "exempt"     // no NAT for what matches
)

// NAT is one entry.
type NAT struct {
	Name        string     `key:"name" need:"yes" as:"name" doc:"Unique; counters, logs and differences use it."`
	Type        NATType    `key:"type" need:"yes" enum:"masquerade,snat,dnat,one-to-one,exempt" doc:"masquerade and snat change the source, dnat the destination, one-to-one both ways; exempt leaves both as they are."`
	From        []string   `key:"from" as:"name" doc:"Zones the connections come from; none means all."`
	Out         []string   `key:"out" as:"device" doc:"Interfaces they leave by (not for dnat); the outside interface of one-to-one."`
	Source      []Address  `key:"source" doc:"Their sources; none means all."`
	Destination []Address  `key:"destination" doc:"Their destinations; none means all. For dnat the addresses that are forwarded."`
	Service     []Service  `key:"service" doc:"Their services; none means all."`
	To          Target     `key:"to" doc:"snat: vip, an address or a pool A-B. dnat: an address, or address:port ([address]:port for IPv6)."`
	Outside     Target     `key:"outside" doc:"one-to-one: the address or network as the outside sees it."`
	Inside      Target     `key:"inside" doc:"one-to-one: the address or network inside, of the same size."`
	Ports       node.Ports `key:"ports" enum:"keep,random" doc:"Source ports: kept where free, or every one at random."`
	Persistent  bool       `key:"persistent" doc:"A client keeps its address of the pool."`
	Hairpin     bool       `key:"hairpin" doc:"dnat, one-to-one: also for clients of every zone, those in the subnet of the server too."`
}

// Target is an address that NAT translates to, or a range with a port.
type Target struct {
	VIP   bool // the first VIP of the interface
	Range rules.Range
	Port  uint16
}

// IsZero reports whether the target was not given.
func (t Target) IsZero() bool { return t == Target{} }

// Filter is the packet filter.
type Filter struct {
	LogDropped bool   `key:"log_dropped" doc:"Log what no rule accepts, at most 10 lines a second."`
	Flowtable  bool   `key:"flowtable" doc:"Send established connections past the rules where the kernel can."`
	Rules      []Rule `key:"rules" doc:"In order; the first that matches a new connection decides."`
}

// Rule is one rule of the packet filter.
type Rule struct {
	Name        string       `key:"name" need:"yes" as:"name" doc:"Unique; counters, logs and differences use it."`
	From        []string     `key:"from" as:"name" doc:"Zones; none means all."`
	To          []string     `key:"to" as:"name" doc:"Zones; none means all."`
	Source      []Address    `key:"source" doc:"Addresses; none means all."`
	Destination []Address    `key:"destination" doc:"Addresses as they are after dnat; none means all."`
	Service     []Service    `key:"service" doc:"Services as they are after dnat; none means all."`
	Action      rules.Action `key:"action" need:"yes" enum:"accept,drop,reject" doc:"reject tells the sender; it never ends a connection that is already running."`
	Log         bool         `key:"log" doc:"Log new connections, at most 10 lines a second."`
	Limit       *Limit       `key:"limit" doc:"New connections beyond it are dropped; for accept only."`
}

// Helper attaches a helper of the kernel to connections.
type Helper struct {
	Name        string               `key:"name" need:"yes" as:"name" doc:"Unique; counters and differences use it."`
	Protocol    rules.HelperProtocol `key:"protocol" need:"yes" enum:"ftp,sip" doc:"ftp over TCP, sip over UDP; what is encrypted no helper can read."`
	From        []string             `key:"from" need:"yes" as:"name" doc:"Zones the connections come from. Whoever may speak there can have further connections let in to himself."`
	Source      []Address            `key:"source" doc:"Their sources; none means all of the zones."`
	Destination []Address            `key:"destination" doc:"Their destinations as the client says them, before dnat; none means all."`
	Port        uint16               `key:"port" min:"1" max:"65535" doc:"Destination port as the client says it; 21 for ftp and 5060 for sip when left out."`
}

// at is the port at which the helper listens.
func (h *Helper) at() uint16 {
	if h.Port != 0 {
		return h.Port
	}
	_, usual := h.Protocol.Transport()
	return usual
}

// Limit of a rule.
type Limit struct {
	Rate  Rate   `key:"rate" need:"yes" doc:"New connections, e.g. 10/second, 100/minute."`
	Burst uint32 `key:"burst" min:"1" max:"100000" doc:"How many may come at once."`
	Per   Per    `key:"per" enum:"rule,source" doc:"Counted for the rule, or for every source address by itself."`
}

// Rate is a number per unit of time.
type Rate struct {
	Count uint64
	Unit  string // second, minute, hour, day
}

// Per says what a limit counts by.
type Per string

// Words of Per.
const (
	PerRule   Per = "rule"
	PerSource Per = "source"
)

// Access lets somebody reach the gateway itself.
type Access struct {
	Name    string    `key:"name" need:"yes" as:"name" doc:"Unique; counters and differences use it."`
	From    []string  `key:"from" need:"yes" as:"name" doc:"Zones."`
	Source  []Address `key:"source" doc:"Addresses; none means all of the zones."`
	Service []Service `key:"service" need:"yes" doc:"ssh, api (the ports of services), or any other service."`
	VIPs    bool      `key:"vips" doc:"On shared addresses too: the active member answers."`
	Log     bool      `key:"log" doc:"Log new connections, at most 10 lines a second."`
}

// Services are the gateway's own. What this firmware has no program for has no key here: a setting that does nothing
// would be believed.
type Services struct {
	SSH SSH `key:"ssh" doc:"The console over the network, and what management means by ssh."`
	API API `key:"api" doc:"The API over the network, and what management means by api."`
}

// SSH is the console over the network.
type SSH struct {
	Enabled bool   `key:"enabled" doc:"The server runs; who reaches it is in management."`
	Port    uint16 `key:"port" min:"1" max:"65535" doc:"TCP port."`
}

// API is the API over the network: HTTPS with tokens.
type API struct {
	Enabled bool   `key:"enabled" doc:"The server runs, once there is a token; who reaches it is in management."`
	Port    uint16 `key:"port" min:"1" max:"65535" doc:"TCP port."`
}

// Monitor watches hosts, as in the node file.
type Monitor struct {
	Name     string        `key:"name" need:"yes" as:"label" doc:"Unique."`
	Hosts    []netip.Addr  `key:"hosts" need:"yes" doc:"1 to 16 hosts; when more than half are down the member is unfit."`
	Probe    Probe         `key:"probe" doc:"icmp, arp, or tcp:PORT."`
	Interval time.Duration `key:"interval" doc:"Between two probes of a host."`
	Loss     int           `key:"loss" min:"1" max:"1000" doc:"Unanswered probes in a row after which a host is down."`
	Grace    time.Duration `key:"grace" doc:"After the start nothing is a problem for so long."`
}

// Probe is how a monitor asks.
type Probe struct {
	Kind node.Probe
	Port uint16
}

// positions has the place of every value by its path.
type positions struct {
	file string
	at   yamldoc.Positions
}
