package node

import "time"

// Every default of the node file is in this file, and nowhere else.

// DefaultSSHPort is where the console listens (RFC 4253, section 4).
const DefaultSSHPort = 22

// DefaultAPIPort is where the API over the network listens, once it is enabled (RFC 9110, section 4.2.2).
const DefaultAPIPort = 443

func newCluster() *Cluster {
	return &Cluster{
		Mode:      ModeActiveUp,
		Checksums: ChecksumsInvalid,
		Timing: Timing{
			Beat:    10 * time.Millisecond,
			Lease:   40 * time.Millisecond,
			Dead:    60 * time.Millisecond,
			Silence: 500 * time.Millisecond,
		},
	}
}

// quorumTiming is the default where the role needs a majority: a vote must outlive the loss of heartbeats, and the lease
// after it, so the dead time is longer (ha/cluster, quorum.go). The lease is not shorter than elsewhere, and a vote
// outlives a longer stall than the lease: a witness must not make a cluster more sensitive (docs/witness.md has numbers).
var quorumTiming = Timing{
	Beat:    10 * time.Millisecond,
	Lease:   40 * time.Millisecond,
	Dead:    120 * time.Millisecond,
	Silence: 500 * time.Millisecond,
}

func newMember() Member { return Member{Priority: 100} }

func newInterface() Interface { return Interface{Beats: true} }

func newNAT() NAT { return NAT{To: TargetVIP, Ports: PortsKeep} }

// complete fills in what depends on more than one field.
func (n *Node) complete() {
	for i := range n.Interfaces {
		f := &n.Interfaces[i]
		if f.Device == "" {
			f.Device = f.Name
		}
		if f.Number == 0 {
			f.Number = uint8(min(i+1, MaxInterfaces))
		}
	}
	if n.plainHost() {
		for i := range n.Interfaces {
			n.Interfaces[i].Zone = ZoneLAN
		}
	}
	if n.Cluster == nil {
		for i := range n.Interfaces {
			n.Interfaces[i].Beats = false
		}
		for i := range n.NAT {
			if n.NAT[i].To == TargetVIP {
				n.NAT[i].To = TargetAddress
			}
		}
	}
}

// plainHost reports whether the file describes a host rather than a gateway: no cluster, no NAT, and no zone
// anywhere. Such a host has nothing to protect from itself, so all its interfaces are lan. As soon as one
// interface has a zone the others stay closed.
func (n *Node) plainHost() bool {
	if n.Cluster != nil || len(n.NAT) > 0 {
		return false
	}
	for i := range n.Interfaces {
		if n.Interfaces[i].Zone != ZoneNone {
			return false
		}
	}
	return true
}
