package node

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// newMonitor has Clavister's defaults (reference/vendors.md, section 1.9).
func newMonitor() Monitor {
	return Monitor{Probe: ProbeICMP, Interval: 250 * time.Millisecond, Loss: 7, Grace: 45 * time.Second}
}

func monitor(s *section) Monitor {
	m := newMonitor()
	need(s, "name", &m.Name, label)
	readList(s, "hosts", &m.Hosts, address)
	read(s, "probe", &m, func(text string) (Monitor, *complaint) {
		if port, ok := strings.CutPrefix(text, "tcp:"); ok {
			n, bad := number[uint16](1, 65535)(port)
			m.Probe, m.Port = ProbeTCP, n
			return m, bad
		}
		p, bad := oneOf(ProbeICMP, ProbeARP)(text)
		if bad != nil {
			bad.hint = "icmp, arp, or tcp:PORT"
		}
		m.Probe = p
		return m, bad
	})
	read(s, "interval", &m.Interval, duration)
	read(s, "loss", &m.Loss, number[int](1, 1000))
	read(s, "grace", &m.Grace, duration)
	return m
}

// MaxMonitored bounds the hosts of one monitor.
const MaxMonitored = 16

func (r *reader) checkMonitors(n *Node) {
	names := make(seen[string])
	for i, m := range n.Monitors {
		path := fmt.Sprintf("monitors[%d]", i)
		if m.Name != "" {
			names.once(r, m.Name, path+".name", "monitor %s", m.Name)
		}
		if len(m.Hosts) == 0 || len(m.Hosts) > MaxMonitored {
			r.fail(path+".hosts", fmt.Sprintf("give 1 to %d addresses", MaxMonitored), "%d hosts are given", len(m.Hosts))
		}
		if m.Interval < MinProbe || m.Interval > time.Minute {
			r.fail(path+".interval", "", "%s is not between %s and 1m", m.Interval, MinProbe)
		}
		hosts := make(seen[netip.Addr])
		for j, h := range m.Hosts {
			where := fmt.Sprintf("%s.hosts[%d]", path, j)
			if !h.IsValid() {
				continue
			}
			hosts.once(r, h, where, "host %s", h)
			for _, f := range n.Interfaces {
				for _, v := range f.VIPs {
					if v == h {
						r.fail(where, "watch a host beyond this gateway", "%s is a shared address of this cluster", h)
					}
				}
			}
			if m.Probe == ProbeARP && (!h.Is4() || !onLink(n, h)) {
				r.fail(where, "use icmp for hosts behind a router and for IPv6", "%s is on no link of this member", h)
			}
		}
	}
}

func onLink(n *Node, a netip.Addr) bool {
	for i := range n.Interfaces {
		if n.Interfaces[i].Reaches(a) {
			return true
		}
	}
	return false
}
