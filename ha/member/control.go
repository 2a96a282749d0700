package member

import (
	"time"

	"github.com/twinkeep/twinkeep/ha/ccp"
	"github.com/twinkeep/twinkeep/ha/ccp/speaker"
	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/probe"
)

// Opinion is what one member thinks of another, by its newest report over CCP. It is gone when that is not fresh.
type Opinion struct {
	Member uint8    `json:"member"` // who thinks so
	Name   string   `json:"name"`
	State  string   `json:"state"` // DOWN INIT STANDBY READY ACTIVE; ACTIVE! counts as ACTIVE, LOST as DOWN
	Age    Duration `json:"age"`
}

// ControlStatus counts packets of the Cluster Control Protocol.
type ControlStatus struct {
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"` // and accepted
	// Rejected counts those that were refused, by reason.
	Rejected map[string]uint64 `json:"rejected,omitempty"`
}

// VerdictStatus is what interface probing found.
type VerdictStatus struct {
	// Kind: probing, alone, unknown, lan, split, one-way, filtered, theirs, no-carrier, ours.
	Kind  string   `json:"kind"`
	Text  string   `json:"text"`
	Since Duration `json:"since"` // for how long it has stood
}

// leastSilence is the shortest time without heartbeats on one interface after which questions begin.
const leastSilence = time.Second

// newSpeaker prepares the member's CCP. A witness does not speak it.
func (m *Member) newSpeaker() (*speaker.Speaker, error) {
	if m.cfg.Self > ccp.MaxMembers {
		return nil, nil
	}
	c := speaker.Config{
		Cluster: m.cfg.ClusterID, Self: m.cfg.Self, Key: m.cfg.Key, Mode: ccp.ActiveUp,
		Silence: max(leastSilence, 4*m.cfg.Timing.Dead), Look: m.look, Event: m.event,
		Policy: m.cfg.Policy.Revision,
	}
	if m.cfg.Mode == cluster.PrimaryUp {
		c.Mode = ccp.PrimaryUp
	}
	for _, p := range m.cfg.Members {
		c.Members = append(c.Members, probe.Member{ID: p.ID, Name: m.name(p.ID)})
	}
	for _, f := range m.cfg.Interfaces {
		c.Interfaces = append(c.Interfaces, speaker.Interface{Name: f.Name, Device: f.Device, Number: f.Number, Sync: f.Sync, Heartbeat: f.Heartbeat, Address: f.Address})
	}
	return speaker.New(c)
}

// look is what CCP has to know of the member now.
func (m *Member) look() (v speaker.View, ok bool) {
	ok = m.do(func() {
		w, now := m.machine.View(), m.now()
		v = speaker.View{Nonce: w.Nonce, State: w.State}
		for _, p := range w.Peers {
			if p.ID > ccp.MaxMembers {
				continue // witnesses do not speak CCP
			}
			q := speaker.Peer{ID: p.ID, Alive: p.Alive, Boot: p.Boot, State: p.State}
			for _, at := range p.HeardOn {
				age := ccp.Unheard
				if at >= 0 {
					age = now.Sub(at)
				}
				q.Heard = append(q.Heard, age)
			}
			v.Peers = append(v.Peers, q)
		}
		for _, p := range m.ports {
			v.Links = append(v.Links, speaker.Link{Present: p.present && p.port != nil, Up: p.up})
		}
	})
	return v, ok
}

// ActiveCheck says whether a side of this member has failed although there is carrier, see [speaker.Speaker.ActiveCheck].
func (m *Member) ActiveCheck() (problem bool, text string) {
	if m.ccp == nil {
		return false, ""
	}
	return m.ccp.ActiveCheck()
}

// addControl adds what CCP knows to a status.
func (m *Member) addControl(s *Status) {
	if m.ccp == nil {
		return
	}
	c := m.ccp.Status()
	s.Control = ControlStatus{Sent: c.Sent, Received: c.Received, Rejected: c.Refused}
	for _, o := range c.Opinions {
		w := Opinion{Member: o.By, Name: m.name(o.By), State: o.State.String(), Age: Duration(o.Age)}
		if o.Of == s.Member {
			s.Opinions = append(s.Opinions, w)
		}
		for i := range s.Peers {
			if p := &s.Peers[i]; p.Member == o.Of {
				p.Opinions = append(p.Opinions, w)
			}
		}
	}
	for i, v := range c.Verdicts {
		if v.Kind != probe.OK && i < len(s.Interfaces) {
			s.Interfaces[i].Verdict = &VerdictStatus{Kind: v.Kind.String(), Text: v.Text, Since: Duration(c.Ages[i])}
		}
	}
}
