package api

import (
	"net/netip"
	"time"

	"github.com/twinkeep/twinkeep/firmware/node"
)

// Sockets in the run directory.
const (
	InitSocket     = "init.sock"
	GatewaydSocket = "gatewayd.sock"
	HadSocket      = "had.sock"
)

// NodeStatus is gatewayd's GET /v1/node: the node file, and how far the box follows it.
type NodeStatus struct {
	File     string `json:"file"`
	Hostname string `json:"hostname,omitempty"`
	Cluster  string `json:"cluster,omitempty"` // name and ID, empty on a standalone host
	// Policy is what a box runs that runs by policies; of the node file its identity, key and devices count then.
	Policy string `json:"policy,omitempty"`
	// Applied is true when what runs is what the file says, but for Missing and Problems. It is false when the file
	// on disk is bad; what ran before goes on then.
	Applied  bool           `json:"applied"`
	Running  bool           `json:"running"` // a good file, this or an older one, is in force
	Errors   []node.Problem `json:"errors,omitempty"`
	Warnings []node.Problem `json:"warnings,omitempty"`
	Missing  []MissingNIC   `json:"missing,omitempty"`  // wanted by the file, not in the box
	Problems []string       `json:"problems,omitempty"` // what the kernel refused
	Changes  []string       `json:"changes,omitempty"`  // what the last application changed
}

// MissingNIC is an interface of the node file without a NIC.
type MissingNIC struct {
	Name   string `json:"name"`
	Device string `json:"device"`
}

// Interface is one entry of gatewayd's GET /v1/interfaces.
type Interface struct {
	Name     string `json:"name"` // in the node file; the device's when it is not there
	Device   string `json:"device"`
	Zone     string `json:"zone,omitempty"`
	Sync     bool   `json:"sync,omitempty"`
	Present  bool   `json:"present"`
	Disabled bool   `json:"disabled,omitempty"` // by an operator
	// Registration says how the NIC stands to the licence: matches, does not match, not named; empty when it has nothing
	// to do with it.
	Registration string         `json:"registration,omitempty"`
	Up           bool           `json:"up"`
	Carrier      bool           `json:"carrier"`
	MAC          string         `json:"mac,omitempty"`
	SharedMAC    string         `json:"shared_mac,omitempty"` // of the macvlan with the VIPs
	Speed        int            `json:"speed,omitempty"`      // Mbit/s, 0 when unknown
	MTU          int            `json:"mtu,omitempty"`        // bytes
	Addresses    []netip.Prefix `json:"addresses,omitempty"`  // of the device and its macvlan
	Place        string         `json:"place,omitempty"`      // on the PCI tree
	Driver       string         `json:"driver,omitempty"`
	RX           Counters       `json:"rx"`
	TX           Counters       `json:"tx"`
}

// Counters of one direction since the device exists.
type Counters struct {
	Bytes   uint64 `json:"bytes"`
	Packets uint64 `json:"packets"`
	Errors  uint64 `json:"errors"`
	Drops   uint64 `json:"drops"`
}

// Hardware is gatewayd's GET /v1/hardware.
type Hardware struct {
	Board       string        `json:"board"` // name of the board file
	BoardText   string        `json:"board_text,omitempty"`
	Vendor      string        `json:"vendor,omitempty"`  // DMI
	Product     string        `json:"product,omitempty"` // DMI
	CPU         string        `json:"cpu"`
	Cores       int           `json:"cores"`
	MemoryTotal uint64        `json:"memory_total"`     // bytes
	MemoryFree  uint64        `json:"memory_available"` // bytes, as MemAvailable
	Kernel      string        `json:"kernel"`
	Uptime      time.Duration `json:"uptime_ns"`
	Watchdog    string        `json:"watchdog,omitempty"` // identity; empty without one
	NICs        []NIC         `json:"nics"`
	// Problems names what could not be found out.
	Problems []string `json:"problems,omitempty"`
}

// NIC is a network card on the PCI tree.
type NIC struct {
	Device    string `json:"device"`
	Interface string `json:"interface,omitempty"` // name in the configuration
	Place     string `json:"place"`
	Driver    string `json:"driver"`
	MAC       string `json:"mac"`
	NN        uint8  `json:"nn"`                   // of the shared MAC, from the place
	SharedMAC string `json:"shared_mac,omitempty"` // in a cluster
	IDs       string `json:"ids"`                  // PCI vendor:device
}

// Tuple is one direction of a connection.
type Tuple struct {
	Src     netip.Addr `json:"src"`
	Dst     netip.Addr `json:"dst"`
	SrcPort uint16     `json:"src_port,omitempty"` // ICMP: the identifier
	DstPort uint16     `json:"dst_port,omitempty"`
	Packets uint64     `json:"packets"`
	Bytes   uint64     `json:"bytes"`
}

// Connection is one entry of gatewayd's GET /v1/connections.
type Connection struct {
	Proto    string `json:"proto"` // tcp, udp, icmp, …, or the number
	Original Tuple  `json:"original"`
	Reply    Tuple  `json:"reply"` // differs from the mirrored original by NAT
	// State is that of TCP, else empty. Offloaded connections have none, and no timeout.
	State   string `json:"state,omitempty"`
	Timeout uint32 `json:"timeout"` // seconds
	Assured bool   `json:"assured"`
	Offload bool   `json:"offload,omitempty"`
	Mark    uint32 `json:"mark,omitempty"`
	Zone    uint16 `json:"zone,omitempty"`
	Helper  string `json:"helper,omitempty"`
	// Unreplied says that nothing has come back yet.
	Unreplied bool `json:"unreplied,omitempty"`
}

// Connections is the body of gatewayd's GET /v1/connections. It is written as the table is read.
type Connections struct {
	Connections []Connection `json:"connections"`
	Matching    int          `json:"matching"`        // may be more than are listed
	Error       string       `json:"error,omitempty"` // why the table was not read to its end
}

// ConnectionCount is gatewayd's GET /v1/connections/count.
type ConnectionCount struct {
	Count uint32 `json:"count"`
	Max   uint32 `json:"max"`
}

// Message is the answer to a command, in one sentence.
type Message struct {
	Message string `json:"message"`
}
