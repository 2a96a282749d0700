package member

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/gate"
	"github.com/twinkeep/twinkeep/ha/port"
	"github.com/twinkeep/twinkeep/ha/wire"
)

func presentDevices() (map[string]bool, error) {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list NICs: %w", err)
	}
	m := map[string]bool{}
	for _, i := range ifs {
		m[i.Name] = true
	}
	return m, nil
}

func deviceMAC(device string) (wire.MAC, error) {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return wire.MAC{}, fmt.Errorf("find %s: %w", device, err)
	}
	if len(ifi.HardwareAddr) != 6 {
		return wire.MAC{}, fmt.Errorf("%s has no Ethernet address", device)
	}
	return wire.MAC(ifi.HardwareAddr), nil
}

// broadcast is the last address of an IPv4 prefix; a /31 and a /32 have none, there it is the limited
// broadcast.
func broadcast(p netip.Prefix) netip.Addr {
	if p.Bits() >= 31 {
		return netip.AddrFrom4([4]byte{255, 255, 255, 255})
	}
	a := p.Addr().As4()
	n := binary.BigEndian.Uint32(a[:]) | (1<<(32-p.Bits()) - 1)
	binary.BigEndian.PutUint32(a[:], n)
	return netip.AddrFrom4(a)
}

// gateWatch is how often the kernel's gate is compared with the machine's belief.
const gateWatch = 200 * time.Millisecond

// watch starts the goroutines that report the world: carriers, the size of the connection table, the gate.
func (m *Member) watch() {
	if len(m.ports) == 0 {
		return // a witness elsewhere: no NIC, no gate
	}
	go func() {
		err := port.Links(m.stop, func(l port.LinkState) {
			m.do(func() { m.linkChanged(l) })
		})
		if err != nil {
			m.do(func() { m.step(cluster.Device{Name: "link monitor", State: cluster.DeviceProblem, Text: err.Error()}) })
		}
	}()
	go m.every(time.Second, nil, func() {
		if n, err := connections(); err == nil {
			m.do(func() { m.step(cluster.Connections(n)) })
		}
	})
	go m.every(gateWatch, m.doubt, func() {
		held := cluster.Instant(-1)
		m.do(func() {
			if m.machine.Holds() {
				held = m.machine.Since()
			}
		})
		state, err := gate.Read()
		m.do(func() { m.gateSeen(held, state, err) })
	})
}

// every calls f periodically, and when kicked, until the member is done.
func (m *Member) every(d time.Duration, kick <-chan struct{}, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f()
		case <-kick:
			f()
		case <-m.stop:
			return
		}
	}
}

// do runs f in the machine's goroutine and waits for it. It reports false when the member is done.
func (m *Member) do(f func()) bool {
	done := make(chan struct{})
	select {
	case m.calls <- func() { f(); close(done) }:
		<-done
		return true
	case <-m.stop:
		return false
	}
}

// gateSeen compares the kernel's gate with the machine's belief. held is since when the member held the role
// at the time the kernel was asked, -1 if it did not: only a role held all the time counts, and for longer than
// a shut order from before can last.
func (m *Member) gateSeen(held cluster.Instant, s gate.State, err error) {
	m.gateErr = ""
	switch {
	case err != nil:
		m.gateErr = err.Error()
		m.event(cluster.Log{Severity: cluster.Error, Name: "gate", Text: err.Error() + "; installing it again"})
		if m.machine.Holds() {
			m.step(cluster.GateLost{Why: err.Error()})
		}
		if err := m.install(); err != nil {
			m.gateErr = err.Error()
			m.step(cluster.Device{Name: "gate", State: cluster.DeviceProblem, Text: err.Error()})
			return
		}
		m.step(cluster.Device{Name: "gate"})
	case held >= 0 && m.machine.Holds() && m.now().Sub(held) > max(gateWatch, 2*m.cfg.Timing.Lease) && !s.Open:
		m.step(cluster.GateLost{Why: "the kernel's gate is shut although this member holds the role: no heartbeat has left within the lease"})
	}
}

// linkChanged takes in a carrier, and a NIC that appears after the start.
func (m *Member) linkChanged(l port.LinkState) {
	for i, p := range m.ports {
		if p.Device != l.Device {
			continue
		}
		if l.Present && !p.present || l.Present && p.port == nil {
			// The gate's chains go with their NIC, so the whole gate is made anew; that shuts it.
			if m.machine.Holds() {
				m.step(cluster.GateLost{Why: "the gate is made anew for " + p.Name})
			}
			if err := m.install(); err != nil {
				m.event(cluster.Log{Severity: cluster.Error, Name: "gate", Text: err.Error()})
			} else if p.port != nil {
				go m.receive(i, p.port)
				if err := m.writeFarewell(); err != nil {
					m.log.Warn("the supervisor cannot say farewell for this process", "err", err)
				}
			}
		}
		if !l.Present && p.port != nil {
			p.port.Close()
			p.port = nil
		}
		p.present, p.up = l.Present, l.Up
		m.step(cluster.Link{Interface: i, Up: l.Up && p.port != nil && p.vipErr == "", Missing: !l.Present})
	}
}

// connections reads the size of the connection table; without conntrack there is none.
func connections() (uint32, error) {
	b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
	return uint32(n), err
}
