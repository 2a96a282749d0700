package cluster

import (
	"maps"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// View is a snapshot of a [Machine] for status displays.
type View struct {
	State       wire.State
	Since       Instant
	Reason      string
	Term        uint64
	Holder      uint8   // 0 if nobody is known to hold the role
	Vacant      Instant // since when this member waits for its turn to take the role; [Never] while it knows of a holder
	Designated  uint8
	Demotion    uint16
	InSync      bool
	Priority    uint8
	Connections uint32
	Policy      Policy
	Problems    []string
	Peers       []PeerView
	Interfaces  []InterfaceView
	Devices     []DeviceView
	Refused     map[wire.Reason]uint64
	Nonce       uint64     // of this boot
	Failovers   []Failover // newest last
	Count       uint64     // of failovers since the start
}

// PeerView is one other member in a [View].
type PeerView struct {
	ID          uint8
	Name        string
	Alive       bool
	State       wire.State // [wire.Lost] when not alive
	Term        uint64
	Priority    uint8
	Demotion    uint16
	InSync      bool
	Connections uint32
	Policy      Policy
	Heard       bool // ever
	LastHeard   Instant
	LastOn      int // interface index, -1 if never
	Gone        string
	Boot        uint64    // nonce of the boot that is believed in, 0 if none
	HeardOn     []Instant // newest heartbeat by interface index, -1 if never
}

// InterfaceView is one interface in a [View].
type InterfaceView struct {
	Known, Up, Missing bool
	Received           uint64 // accepted heartbeats
	Heard              bool   // ever
	LastHeard          Instant
}

// View takes a snapshot.
func (m *Machine) View() View {
	v := View{
		State: m.state, Since: m.since, Reason: m.reason, Term: m.term, Designated: m.designated(), Vacant: m.vacant,
		Demotion: m.demotion(), InSync: m.inSync, Priority: m.priority(), Connections: m.connections, Policy: m.policy,
		Problems: m.problems(), Nonce: m.cfg.Nonce, Refused: map[wire.Reason]uint64{}, Failovers: slices.Clone(m.failovers), Count: m.count,
	}
	if m.active() {
		v.Holder = m.cfg.Self
	} else if h := m.holder(); h != nil {
		v.Holder = h.id
	}
	for r, c := range maps.All(m.refused) {
		v.Refused[r] = c.count
	}
	for _, c := range m.cfg.Members {
		p := m.peers[c.ID]
		if p == nil {
			continue
		}
		w := PeerView{ID: p.id, Name: c.Name, Alive: p.alive, State: wire.Lost, Term: p.view.Term, Priority: p.priority,
			Demotion: p.view.Demotion, InSync: p.view.Has(wire.InSync), Connections: p.view.Connections,
			Policy: Policy{p.view.PolicyRevision, p.view.PolicyDigest},
			Heard:  p.lastOn >= 0, LastHeard: p.lastHeard, LastOn: p.lastOn, Gone: p.gone, Boot: p.nonce}
		for i := range m.links {
			w.HeardOn = append(w.HeardOn, -1)
			if p.heard[i].count > 0 {
				w.HeardOn[i] = p.heard[i].at
			}
		}
		if p.alive {
			w.State = p.view.State
		}
		v.Peers = append(v.Peers, w)
	}
	for i, l := range m.links {
		w := InterfaceView{Known: l.known, Up: l.up, Missing: l.missing}
		for _, p := range m.others {
			if p.heard[i].count > 0 {
				w.Heard, w.Received = true, w.Received+p.heard[i].count
				w.LastHeard = max(w.LastHeard, p.heard[i].at)
			}
		}
		v.Interfaces = append(v.Interfaces, w)
	}
	for _, d := range m.devices {
		v.Devices = append(v.Devices, DeviceView{Name: d.Name, State: d.state(), Text: d.text(), Timeout: d.Timeout, Reported: d.last})
	}
	return v
}

// State is the member's state now.
func (m *Machine) State() wire.State { return m.state }

// Holds reports whether this member holds the role, so that its gate may be open.
func (m *Machine) Holds() bool { return m.active() }

// Since is when the member entered its state.
func (m *Machine) Since() Instant { return m.since }

// DeviceView is one critical device in a [View].
type DeviceView struct {
	Name     string
	State    DeviceState
	Text     string
	Timeout  time.Duration
	Reported Instant
}
