package probe

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/ha/ccp"
)

// Machine judges the interfaces of one member.
type Machine struct {
	cfg    Config
	now    Instant
	ifaces []iface
	peers  [ccp.MaxMembers + 1]peer
	lived  Instant // when another member was alive last
	nextID uint16
	out    []Action
}

// peer is another member.
type peer struct {
	known bool // configured
	name  string
	alive bool
	since Instant // alive since
}

// iface is one interface and what is known of its LAN.
type iface struct {
	Interface
	link    Link
	upAt    Instant // carrier since
	framed  Instant // when the counter of frames last grew
	counted bool

	answered Instant                // newest answer of a neighbour
	answers  map[netip.Addr]Instant // who answered lately, bounded
	asked    Instant                // neighbours last asked

	view [ccp.MaxMembers + 1]view

	trouble   bool
	since     Instant // trouble since
	silent    Instant // what was last heard before it
	round     int     // rounds of questions in this trouble
	fast      int     // rounds since the last news
	wait      time.Duration
	next      Instant
	questions [4]question // newest last
	told      []netip.Addr
	toldRound int // round in which told was first asked

	finding   finding // what the evidence says now
	foundAt   Instant // since when, and in which round it said so first
	findRound int
	verdict   Verdict
	fault     fault
}

// view is what a peer and we know of each other on one LAN.
type view struct {
	heard  Instant // its newest heartbeat here
	passed Instant // its newest CCP packet that arrived here and had left by the same LAN
	deaf   Instant // since when it says that it does not hear us here; never if it does
	hears  Instant // when it last heard us here, by its own word
	said   Instant // when it last spoke of this LAN

	replied Instant // when the question of its newest reply was sent
	proof   Instant // newest proof that its interface works, at the latest
	report  ccp.Report
}

type question struct {
	id uint16
	at Instant
}

// New starts to judge. Members and interfaces over the limits of ha/ccp are left out.
func New(cfg Config, now Instant) *Machine {
	m := &Machine{cfg: cfg, now: now, lived: now}
	for _, c := range cfg.Members {
		if c.ID != cfg.Self && c.ID >= 1 && c.ID <= ccp.MaxMembers {
			m.peers[c.ID] = peer{known: true, name: c.Name}
			if c.Name == "" {
				m.peers[c.ID].name = fmt.Sprintf("member %d", c.ID)
			}
		}
	}
	for i, f := range cfg.Interfaces {
		n := iface{Interface: f, upAt: now, framed: never, answered: never, asked: never, answers: map[netip.Addr]Instant{}}
		n.verdict = Verdict{Interface: i, Since: now}
		n.fault.init()
		for id := range n.view {
			n.view[id] = view{heard: never, passed: never, deaf: never, hears: never, said: never, replied: never, proof: never}
		}
		m.ifaces = append(m.ifaces, n)
	}
	return m
}

// Step tells the machine what happened at now and returns what to do. The slice is valid until the next Step. An
// instant before the last one is taken as the last one.
func (m *Machine) Step(now Instant, in Input) []Action {
	m.out = m.out[:0]
	m.now = max(now, m.now)
	switch in := in.(type) {
	case Facts:
		m.facts(in)
	case Asked:
		m.question(in)
	case Told:
		m.reply(in)
	case State:
		if f, v := m.at(in.Interface, in.From); v != nil && f.Number == in.Left {
			v.passed = m.now
			m.hears(v, in.Heard)
		}
	case Answer:
		m.answer(in)
	}
	return m.out
}

// Verdicts gives the verdict on every interface.
func (m *Machine) Verdicts() []Verdict {
	out := make([]Verdict, len(m.ifaces))
	for i := range m.ifaces {
		out[i] = m.ifaces[i].verdict
	}
	return out
}

// LastHeard is the age of a member's newest heartbeat on an interface, [ccp.Unheard] if none.
func (m *Machine) LastHeard(now Instant, i int, member uint8) time.Duration {
	if _, v := m.at(i, member); v != nil && v.heard != never {
		return now.Sub(v.heard)
	}
	return ccp.Unheard
}

// Proved counts the interfaces that receive from a living member, and those a living member says it hears us on; and
// those of which nothing speaks against either.
func (m *Machine) Proved() (in, assumedIn, out, assumedOut int) {
	for i := range m.ifaces {
		f := &m.ifaces[i]
		if !f.Heartbeat || !f.link.Up {
			continue
		}
		heard, hears := false, false
		for id := range m.peers {
			if p := &m.peers[id]; p.alive {
				v := &f.view[id]
				heard = heard || m.now.Sub(v.heard) < m.cfg.Silence
				hears = hears || v.deaf == never && m.now.Sub(v.said) < 3*Round
			}
		}
		switch {
		case heard:
			in++
		case !f.trouble:
			assumedIn++
		}
		switch {
		case hears:
			out++
		case !f.trouble:
			assumedOut++
		}
	}
	return in, assumedIn, out, assumedOut
}

// at finds what is known of a peer on an interface; v is nil when there is no such.
func (m *Machine) at(i int, member uint8) (*iface, *view) {
	if i < 0 || i >= len(m.ifaces) || int(member) >= len(m.peers) || !m.peers[member].known {
		return nil, nil
	}
	f := &m.ifaces[i]
	return f, &f.view[member]
}

// numbered finds an interface by its number, -1 if there is none.
func (m *Machine) numbered(n uint8) int {
	return slices.IndexFunc(m.ifaces, func(f iface) bool { return f.Number == n })
}

func (m *Machine) facts(in Facts) {
	for _, p := range in.Peers {
		if int(p.ID) >= len(m.peers) || !m.peers[p.ID].known {
			continue
		}
		q := &m.peers[p.ID]
		if p.Alive && !q.alive {
			q.since = m.now
		}
		if q.alive = p.Alive; q.alive {
			m.lived = m.now
		}
		for i, age := range p.Heard {
			if f, v := m.at(i, p.ID); f != nil && age >= 0 {
				v.heard = max(v.heard, m.now.Add(-age))
			}
		}
	}
	for i := range m.ifaces {
		f := &m.ifaces[i]
		if i >= len(in.Links) || !f.Heartbeat {
			continue
		}
		l := in.Links[i]
		if l.Up && !f.link.Up {
			f.upAt = m.now
		}
		if f.counted && l.Frames != f.link.Frames {
			f.framed = m.now
		}
		f.link, f.counted = l, true
		m.judge(i, f)
	}
}

func (m *Machine) answer(in Answer) {
	if in.Interface < 0 || in.Interface >= len(m.ifaces) {
		return
	}
	f := &m.ifaces[in.Interface]
	f.answered = max(f.answered, f.asked) // as old as our question, for the answer may have been late
	if _, known := f.answers[in.From]; !known && len(f.answers) >= 2*ccp.MaxReported {
		oldest, at := netip.Addr{}, m.now
		for a, t := range f.answers {
			if t <= at {
				oldest, at = a, t
			}
		}
		delete(f.answers, oldest)
	}
	f.answers[in.From] = m.now
}

// hears takes in how long ago a peer has heard us on a LAN, by its own word.
func (m *Machine) hears(v *view, age time.Duration) {
	v.said = m.now
	if age >= 0 && age < m.cfg.Silence {
		v.hears, v.deaf = m.now.Add(-age), never
	} else if v.deaf == never {
		v.deaf = m.now
	}
}

// question answers a peer that asks about a LAN, and asks the neighbours there itself.
func (m *Machine) question(in Asked) {
	f, v := m.at(in.Interface, in.From)
	if v == nil {
		return
	}
	if f.Number == in.Left {
		v.passed = m.now
	}
	i := m.numbered(in.About)
	r := ccp.Report{Interface: in.About, Answered: ccp.Unheard}
	if i >= 0 {
		g := &m.ifaces[i]
		var also []netip.Addr
		if in.Report != nil && in.Report.Interface == in.About {
			m.hears(&g.view[in.From], in.Report.HeardFrom(m.cfg.Self))
			also = in.Report.Neighbours
		}
		m.solicit(i, g, also)
		r = m.report(g, g.recent())
	}
	m.out = append(m.out, Tell{Interface: in.Interface, To: in.From, About: in.About, ID: in.ID, Report: r})
}

// solicit asks neighbours, once a second at most.
func (m *Machine) solicit(i int, f *iface, also []netip.Addr) {
	if !f.link.Up || m.now.Sub(f.asked) < Round*9/10 {
		return
	}
	f.asked = m.now
	m.out = append(m.out, Solicit{Interface: i, Also: slices.Clone(also)})
}

// recent are the neighbours that have answered, newest first.
func (f *iface) recent() []netip.Addr {
	var out []netip.Addr
	for a := range f.answers {
		if a.Is4() {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b netip.Addr) int {
		if f.answers[a] != f.answers[b] {
			return int(min(max(f.answers[b]-f.answers[a], -1), 1))
		}
		return a.Compare(b)
	})
	return out[:min(len(out), ccp.MaxReported)]
}

// report is what this member knows of an interface.
func (m *Machine) report(f *iface, neighbours []netip.Addr) ccp.Report {
	r := ccp.Report{Interface: f.Number, Carrier: f.link.Up, Frames: m.now.Sub(f.framed) < m.cfg.Silence, Beats: f.Heartbeat,
		Answered: ccp.Unheard, Neighbours: neighbours}
	if f.answered != never {
		r.Answered = m.now.Sub(f.answered)
	}
	for id := range m.peers {
		if m.peers[id].known {
			h := ccp.HeardAge{Member: uint8(id), Age: ccp.Unheard}
			if at := f.view[id].heard; at != never {
				h.Age = m.now.Sub(at)
			}
			r.Heard = append(r.Heard, h)
		}
	}
	return r
}

// reply takes in what a peer says of a LAN, if we have asked.
func (m *Machine) reply(in Told) {
	f, v := m.at(in.Interface, in.From)
	if v == nil {
		return
	}
	i := m.numbered(in.About)
	if i < 0 {
		return
	}
	g := &m.ifaces[i]
	q := slices.IndexFunc(g.questions[:], func(q question) bool { return q.id == in.ID && q.id != 0 })
	if q < 0 {
		return
	}
	if f.Number == in.Left {
		// It was asked by this LAN, too. The proof is as old as the question, for the answer may have been late.
		v.passed, f.answered = m.now, max(f.answered, g.questions[q].at)
	}
	w := &g.view[in.From]
	if in.Report == nil || in.Report.Interface != in.About || g.questions[q].at < w.replied {
		return
	}
	w.replied, w.report = g.questions[q].at, *in.Report
	m.hears(w, in.Report.HeardFrom(m.cfg.Self))
	if a := in.Report.Answered; a >= 0 {
		w.proof = max(w.proof, w.replied.Add(-a))
		if told := in.Report.Neighbours; len(told) > 0 && w.proof >= g.silent && !slices.Equal(g.told, told) {
			if !slices.ContainsFunc(told, func(a netip.Addr) bool { return slices.Contains(g.told, a) }) {
				g.toldRound = g.round
			}
			g.told = slices.Clone(told[:min(len(told), ccp.MaxReported)])
		}
	}
}
