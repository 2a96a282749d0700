package member

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/gate"
	"github.com/twinkeep/twinkeep/ha/vip"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// announceNew is when new VIPs are announced after they were added; one announcement may be lost.
var announceNew = []time.Duration{0, 100 * time.Millisecond, 500 * time.Millisecond}

// Adapt takes in what next has other than the member's configuration, if that is VIPs and priorities and nothing else: those
// change while the member runs, and its gate stays as it is. It reports false, having changed nothing, when next has more
// to it; with an error, only another life of the member brings it in order.
func (m *Member) Adapt(next Config) (bool, error) {
	var now Config
	var priorities [cluster.MaxMembers]uint8
	if !m.do(func() { now, priorities = m.cfg, m.ours.priorities }) {
		return false, ErrStopped
	}
	if !sameButVIPs(now, next) {
		return false, nil
	}
	m.do(func() { m.cfg.ClusterName = next.ClusterName })
	for i, f := range next.Interfaces {
		if !slices.Equal(f.VIPs, now.Interfaces[i].VIPs) {
			if err := m.setVIPs(i, f.VIPs); err != nil {
				return true, fmt.Errorf("interface %s: %w", f.Name, err)
			}
		}
	}
	for _, p := range next.Members {
		if priorities[p.ID-1] != p.Priority {
			if err := m.SetPriority(p.ID, p.Priority); err != nil {
				return true, err
			}
		}
	}
	return true, nil
}

// sameButVIPs compares what a member is configured with, but for VIPs and priorities.
func sameButVIPs(a, b Config) bool {
	plain := func(c Config) Config {
		c.Role, c.Barrier, c.Log, c.Devices, c.Policy, c.StateDir, c.RunDir, c.ClusterName = nil, nil, nil, nil, cluster.Policy{}, "", "", ""
		c.Interfaces, c.Members = slices.Clone(c.Interfaces), slices.Clone(c.Members)
		for i := range c.Interfaces {
			c.Interfaces[i].VIPs = nil
		}
		for i := range c.Members {
			c.Members[i].Priority = 0
		}
		return c
	}
	return reflect.DeepEqual(plain(a), plain(b))
}

// setVIPs changes the VIPs of an interface. The kernel is told outside the machine's goroutine, which must not wait for it;
// the gate knows an address before it is there, and as long as it is.
func (m *Member) setVIPs(i int, vips []netip.Addr) error {
	p := m.ports[i]
	shared := wire.SharedMAC(p.NN, m.cfg.ClusterID)
	announce, err := vip.Announcement(shared, vips)
	if err != nil {
		return err
	}
	var old []netip.Addr
	present := false
	if !m.do(func() {
		old, present = p.VIPs, p.present
		p.VIPs, p.announce = vips, announce
		m.cfg.Interfaces = slices.Clone(m.cfg.Interfaces)
		m.cfg.Interfaces[i].VIPs = vips
		m.ours.vips = digestVIPs(m.cfg.Interfaces)
		m.settings = appendSettings(nil, m.ours)
	}) {
		return ErrStopped
	}
	if !present {
		return nil // with the NIC they come
	}
	added := slices.DeleteFunc(slices.Clone(vips), func(a netip.Addr) bool { return slices.Contains(old, a) })
	if err := gate.SetVIPs(p.Device, append(slices.Clone(old), added...)); err != nil {
		return err
	}
	if len(vips) > 0 {
		err = vip.Ensure(vip.Config{Parent: p.Device, MAC: shared, Addrs: vips})
	} else {
		err = vip.Remove(p.Device)
	}
	if err != nil {
		return err
	}
	if err := gate.SetVIPs(p.Device, vips); err != nil {
		return err
	}
	if frames, err := vip.Announcement(shared, added); err == nil && len(added) > 0 {
		go m.announceAdded(p, frames)
	}
	m.do(func() {
		if p.claims != nil {
			p.claims.Close() // it looks for the new ones when it is opened again
		}
		m.event(cluster.Log{Severity: cluster.Notice, Name: "vips", Text: fmt.Sprintf("interface %s has %d VIPs now, %d before", p.Name, len(vips), len(old))})
	})
	return nil
}

// announceAdded announces new VIPs while this member holds the role. Whoever takes it later announces all.
func (m *Member) announceAdded(p *portState, frames [][]byte) {
	var last time.Duration
	for _, at := range announceNew {
		select {
		case <-m.stop:
			return
		case <-time.After(at - last):
		}
		last = at
		m.do(func() {
			if p.port == nil || !m.machine.Holds() {
				return
			}
			for _, f := range frames {
				p.port.Send(f) // counted by the NIC
			}
		})
	}
}
