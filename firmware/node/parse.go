package node

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/twinkeep/twinkeep/firmware/yamldoc"
)

// FileName is the node file in the config directory.
const FileName = "node.yaml"

// Version is the format of the node file this package reads.
const Version = 1

// Parse reads and checks a node file. name stands in front of every message. The error is an ErrorList with every
// fault of the file; the node is nil then. A key in a key_file is not read: see Load.
func Parse(name string, data []byte) (*Node, Warnings, error) {
	r := &reader{file: name, at: make(yamldoc.Positions)}
	n := new(Node)
	if len(data) > MaxSize {
		r.fail("", "", "the file has %d bytes, the most is %d", len(data), MaxSize)
	} else if top := r.parse(data); top != nil {
		r.node(top, n)
		n.complete()
		r.check(n)
	}
	inOrder(r.errors)
	inOrder(r.warnings)
	if len(r.errors) > 0 {
		return nil, r.warnings, r.errors
	}
	return n, r.warnings, nil
}

// inOrder sorts by place, so that a person fixes the file from top to bottom.
func inOrder(l []Problem) {
	slices.SortStableFunc(l, func(a, b Problem) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
}

func version(s string) (int, *complaint) {
	if s != strconv.Itoa(Version) {
		return 0, &complaint{fmt.Sprintf("version %q is not known", s), fmt.Sprintf("this firmware reads version: %d", Version)}
	}
	return Version, nil
}

func (r *reader) node(s *section, n *Node) {
	need(s, "version", &n.Version, version)
	need(s, "hostname", &n.Hostname, label)
	read(s, "board", &n.Board, anyText)
	if v, ok := s.take("cluster"); ok {
		if sub := r.section("cluster", v); sub != nil {
			n.Cluster = cluster(sub)
			sub.finish()
		}
	}
	readSections(s, "interfaces", &n.Interfaces, iface)
	readSections(s, "routes", &n.Routes, route)
	readSections(s, "nat", &n.NAT, nat)
	readList(s, "helpers", &n.Helpers, helper)
	readSections(s, "monitors", &n.Monitors, monitor)
	read(s, "registration", &n.Registration, anyText)
	if v, ok := s.take("ssh"); ok {
		if sub := r.section("ssh", v); sub != nil {
			enabled := true
			read(sub, "enabled", &enabled, boolean)
			n.SSH.Off = !enabled
			read(sub, "port", &n.SSH.Port, number[uint16](1, 65535))
			sub.finish()
		}
	}
	if v, ok := s.take("api"); ok {
		if sub := r.section("api", v); sub != nil {
			enabled, port := false, uint16(DefaultAPIPort)
			read(sub, "enabled", &enabled, boolean)
			read(sub, "port", &port, number[uint16](1, 65535))
			sub.finish()
			if enabled {
				n.API.Port = port
			}
		}
	}
	s.finish()
}

func cluster(s *section) *Cluster {
	c := newCluster()
	need(s, "id", &c.ID, number[uint8](1, 255))
	read(s, "name", &c.Name, anyText)
	need(s, "member", &c.Member, number[uint8](1, MaxWitness))
	hasKey := read(s, "key", &c.Key, clusterKey) || s.values["key"] != nil
	hasFile := read(s, "key_file", &c.KeyFile, anyText)
	switch {
	case hasKey && hasFile:
		s.fail("cluster.key_file", "keep one of the two", "the key is given twice, as key and as key_file")
	case !hasKey && !hasFile:
		s.fail("cluster", "add key: … ("+makeKey+") or key_file: …; all members have the same", "the cluster key is missing")
	}
	read(s, "mode", &c.Mode, oneOf(ModeActiveUp, ModePrimaryUp))
	read(s, "checksums", &c.Checksums, oneOf(ChecksumsInvalid, ChecksumsValid))
	readSections(s, "members", &c.Members, func(s *section) Member {
		m := newMember()
		need(s, "id", &m.ID, number[uint8](1, MaxMembers))
		need(s, "name", &m.Name, label)
		read(s, "priority", &m.Priority, number[uint8](1, 255))
		return m
	})
	readSections(s, "witnesses", &c.Witnesses, func(s *section) (w Witness) {
		need(s, "id", &w.ID, number[uint8](MaxMembers+1, MaxWitness))
		need(s, "name", &w.Name, label)
		read(s, "address", &w.Address, address)
		return w
	})
	read(s, "safety", &c.Safety, boolean)
	read(s, "lock", &c.Lock, boolean)
	read(s, "defer", &c.Defer, boolean)
	if c.Quorum() {
		c.Timing = quorumTiming
	}
	if v, ok := s.take("timing"); ok {
		if sub := s.section("cluster.timing", v); sub != nil {
			read(sub, "beat", &c.Timing.Beat, duration)
			read(sub, "lease", &c.Timing.Lease, duration)
			read(sub, "dead", &c.Timing.Dead, duration)
			c.Timing.Silence = max(c.Timing.Silence, 2*c.Timing.Dead)
			read(sub, "silence", &c.Timing.Silence, duration)
			sub.finish()
		}
	}
	return c
}

func iface(s *section) Interface {
	i := newInterface()
	need(s, "name", &i.Name, deviceName)
	read(s, "device", &i.Device, deviceName)
	read(s, "zone", &i.Zone, oneOf(ZoneLAN, ZoneWAN))
	read(s, "sync", &i.Sync, boolean)
	read(s, "heartbeat", &i.Beats, boolean)
	read(s, "address", &i.Address, hostPrefix(32))
	read(s, "address6", &i.Address6, hostPrefix(128))
	readList(s, "vips", &i.VIPs, address)
	read(s, "vips_outside", &i.VIPsOutside, boolean)
	read(s, "place", &i.Place, place)
	read(s, "number", &i.Number, number[uint8](1, MaxInterfaces))
	var nn uint8
	if read(s, "nn", &nn, number[uint8](0, 255)) {
		i.NN = &nn
	}
	return i
}

func route(s *section) (r Route) {
	need(s, "to", &r.To, network)
	need(s, "via", &r.Via, address)
	return r
}

func nat(s *section) NAT {
	n := newNAT()
	readList(s, "from", &n.From, network)
	need(s, "out", &n.Out, anyText)
	read(s, "to", &n, func(text string) (NAT, *complaint) {
		to, bad := oneOf(TargetVIP, TargetAddress)(text)
		if bad == nil {
			n.To = to
			return n, nil
		}
		n.To = TargetIP
		if n.Addr, bad = address(text); bad != nil {
			bad.hint = "vip, address, or an IPv4 address"
		}
		return n, bad
	})
	read(s, "ports", &n.Ports, oneOf(PortsKeep, PortsRandom))
	return n
}
