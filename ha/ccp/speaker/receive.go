package speaker

import (
	"errors"
	"fmt"
	"time"

	"github.com/twinkeep/twinkeep/ha/ccp"
	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/port"
	"github.com/twinkeep/twinkeep/ha/probe"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// received is one frame, from the goroutine of its interface.
type received struct {
	iface int
	n     int
	data  [ccp.MaxFrame + 1]byte
}

// Budget of one interface: frames a second that are looked at, and how many at once. Seven peers with 32 interfaces in
// trouble send about 300. What is over waits in the socket, and what does not fit there the kernel drops: a flood
// costs this process rate times some ten microseconds.
const (
	rate  = 500
	burst = 250
)

// bucket is a token bucket. It begins full.
type bucket struct {
	rate, burst float64 // tokens a second, and at most
	used        float64
	at          time.Duration
}

// take takes one token, or says how long to wait for some.
func (b *bucket) take(now time.Duration) (wait time.Duration) {
	b.used = max(0, b.used-b.rate*(now-b.at).Seconds())
	b.at = now
	if b.used > b.burst-1 {
		return time.Second / 20
	}
	b.used++
	return 0
}

// receive hands frames over until its port closes.
func (s *Speaker) receive(i int, p *port.Control, done <-chan struct{}) {
	b := bucket{rate: rate, burst: burst, at: s.now()}
	f := received{iface: i}
	for {
		if wait := b.take(s.now()); wait > 0 {
			select {
			case <-done:
				return
			case <-time.After(wait):
				continue
			}
		}
		n, err := p.Receive(f.data[:])
		if err != nil {
			s.lost(i, p)
			return
		}
		f.n = n
		select {
		case s.frames <- f:
		case <-done:
			return
		}
	}
}

// handle judges one frame.
func (s *Speaker) handle(f *received) {
	p, err := s.decode(f.data[:f.n])
	if err == nil {
		err = s.admit(p)
	}
	if err != nil {
		var r ccp.Reason
		if errors.As(err, &r) {
			s.refuse(f.iface, r, 1)
		}
		return
	}
	s.received++
	if p.Destination == ccp.Everyone || p.Destination == s.cfg.Self {
		s.take(f.iface, p)
	}
}

func (s *Speaker) decode(frame []byte) (ccp.Packet, error) {
	e, payload, err := ccp.ParseFrame(frame)
	if err != nil {
		return ccp.Packet{}, err
	}
	if g := e.DstIP.As4(); g[0] == 239 && g[1] == 255 && g[2] == 0 && e.DstIP != s.group {
		return ccp.Packet{}, wire.Foreign // a neighbour cluster's group; its tag would be wrong, too
	}
	b, err := s.key.Open(payload)
	if err != nil {
		return ccp.Packet{}, err
	}
	return ccp.Parse(b)
}

// admit refuses what is authentic but not from a peer of this cluster, now, for the first time.
func (s *Speaker) admit(p ccp.Packet) error {
	q := s.peers[p.Source]
	switch {
	case p.Cluster != s.cfg.Cluster:
		return wire.Foreign
	case p.Source == s.cfg.Self:
		return ccp.Myself
	case q == nil:
		return wire.Unknown
	case q.boot == 0 || p.Nonce != q.boot:
		return wire.Unproven
	case !q.window.Accept(p.Nonce, p.Seq):
		return wire.Replay
	}
	return nil
}

// take acts on a packet.
func (s *Speaker) take(i int, p ccp.Packet) {
	now := probe.Instant(s.now())
	var report *ccp.Report
	if r, ok := ccp.ParseReport(p.Extension); ok {
		report = &r
	}
	switch m := p.Message.(type) {
	case ccp.MyState:
		if m.States != nil {
			s.peers[p.Source].states, s.peers[p.Source].at = m.States, s.now()
		}
		if r := m.Interfaces; r != nil && int(s.cfg.Self) <= len(r.LastSeen) {
			age := ccp.Unheard
			if n := r.LastSeen[s.cfg.Self-1]; n < ccp.Never {
				age = time.Duration(n) * time.Duration(m.TimeUnit) * time.Millisecond
			}
			s.do(s.probe.Step(now, probe.State{Interface: i, Left: p.Interface, From: p.Source, Heard: age}))
		}
	case ccp.QueryState:
		s.send(i, p.Source, p.RandomID, s.myState(i), nil)
	case ccp.IfProbeReq:
		s.do(s.probe.Step(now, probe.Asked{Interface: i, Left: p.Interface, From: p.Source, About: m.Interface, ID: p.RandomID, Report: report}))
	case ccp.IfProbeReply:
		s.do(s.probe.Step(now, probe.Told{Interface: i, Left: p.Interface, From: p.Source, About: m.Interface, ID: p.RandomID, Report: report}))
	case ccp.IfConfReq:
		f := s.ifaces[i]
		s.send(i, p.Source, p.RandomID, ccp.IfConfReply{MAC: f.mac, Trusted: f.Sync, Addr: f.Address.Addr()}, nil)
	case ccp.PolicyChange:
		s.hearPolicy(p.Source, p.Seq, saying{m.Status, p.PolicyID})
	case ccp.IfConfReply:
		if f := s.ifaces[i]; p.Interface == f.Number && f.Address.Contains(m.Addr) && m.Addr != f.Address.Addr() {
			f.addresses[p.Source] = m.Addr
		}
	}
}

// refusal counts refused frames of one reason, and limits how often that is logged.
type refusal struct {
	count  uint64
	muffle uint64
	quiet  time.Duration // no further log before this
	wait   time.Duration
}

// Least and longest time between two logs of the same reason; a neighbour cluster is there for months.
const (
	logPeriod    = 10 * time.Second
	maxLogPeriod = time.Hour
)

// quietly are reasons that belong to a sound cluster.
var quietly = map[ccp.Reason]bool{wire.Unproven: true, wire.Foreign: true}

var remedies = map[ccp.Reason]string{
	wire.TTLTooLow:    "It passed a router; CCP must stay on the link.",
	wire.BadTag:       "The sender has another cluster key; compare the keys.",
	ccp.ForeignCCP:    "Another product's CCP shares this LAN, a ClusterXL cluster; that is fine.",
	ccp.Myself:        "Our own packets come back: a mirrored port, a loop, or two members with the same member ID.",
	wire.Replay:       "Old packets arrive again: a mirrored port, a loop, or somebody replays a recording.",
	wire.Unknown:      "A member that our node file does not list has our cluster key; add it or take the key away.",
	ccp.UnknownOpcode: "A member runs a later version.",
	ccp.Flood:         "More CCP arrives than members can send; somebody floods this LAN. Heartbeats are not affected.",
}

func (s *Speaker) refuse(i int, r ccp.Reason, n uint64) {
	c := s.refusals[r]
	if c == nil {
		c = &refusal{}
		s.refusals[r] = c
	}
	c.count += n
	c.muffle += n
	if quietly[r] || s.now() < c.quiet {
		return
	}
	c.wait = min(max(2*c.wait, logPeriod), maxLogPeriod)
	c.quiet = s.now() + c.wait
	text := fmt.Sprintf("%s: %d CCP packet(s) refused on %s", r, c.muffle, s.ifaces[i].Name)
	if remedy := remedies[r]; remedy != "" {
		text += ". " + remedy
	}
	s.cfg.Event(cluster.Log{Severity: cluster.Warning, Name: EvRefused, Text: text})
	c.muffle = 0
}
