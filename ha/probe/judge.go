package probe

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/ha/ccp"
)

// judge looks at one interface after new facts.
func (m *Machine) judge(i int, f *iface) {
	silent, deaf, living := m.missing(f)
	trouble := !f.link.Up || len(silent)+len(deaf) > 0 || living == 0 && m.alone(f)
	if trouble && !f.trouble {
		f.since, f.silent, f.round, f.fast, f.wait, f.next = m.now, m.lastHeard(f), 0, 0, Round, m.now
		f.told, f.toldRound, f.questions = nil, 0, [4]question{}
		f.finding, f.findRound, f.foundAt = finding{}, 0, m.now
	}
	f.trouble = trouble
	if trouble && m.now >= f.next {
		m.ask(i, f)
	}
	var now finding
	if trouble {
		now = m.find(f, silent, deaf, living)
	}
	now.Interface = i
	m.conclude(f, now, living > 0 && !trouble)
}

// alone reports whether no other member has been alive for the time of silence, though there is one.
func (m *Machine) alone(f *iface) bool {
	return m.now.Sub(max(m.lived, f.upAt)) >= m.cfg.Silence && slices.ContainsFunc(m.peers[:], func(p peer) bool { return p.known })
}

// missing gives the living members that are not heard on an interface, and those that do not hear us there.
func (m *Machine) missing(f *iface) (silent, deaf []uint8, living int) {
	for id := range m.peers {
		p := &m.peers[id]
		if !p.alive {
			continue
		}
		living++
		v := &f.view[id]
		switch {
		case m.now.Sub(max(v.heard, f.upAt, p.since)) >= m.cfg.Silence:
			silent = append(silent, uint8(id))
		case v.deaf != never && m.now.Sub(max(v.deaf, f.upAt, p.since)) >= m.cfg.Silence && m.now.Sub(v.said) < 3*Round+f.wait:
			deaf = append(deaf, uint8(id))
		}
	}
	return silent, deaf, living
}

// lastHeard is when the newest heartbeat of a member that is missed now arrived, or now if that is not known.
func (m *Machine) lastHeard(f *iface) Instant {
	last := never
	for id := range m.peers {
		v := &f.view[id]
		if m.peers[id].alive && m.now.Sub(v.heard) >= m.cfg.Silence {
			last = max(last, v.heard)
		}
	}
	if last == never {
		return m.now
	}
	return last
}

// ask starts the next round of questions.
func (m *Machine) ask(i int, f *iface) {
	f.round++
	f.fast++
	if f.fast > FastRounds {
		f.wait = min(2*f.wait, MaxRound)
	}
	f.next = m.now.Add(f.wait)
	m.nextID++
	if m.nextID == 0 {
		m.nextID = 1
	}
	copy(f.questions[:], f.questions[1:])
	f.questions[len(f.questions)-1] = question{m.nextID, m.now}
	m.solicit(i, f, f.told)
	known := slices.Clone(f.link.Neighbours)
	for _, a := range f.recent() {
		if !slices.Contains(known, a) {
			known = append(known, a)
		}
	}
	r := m.report(f, known[:min(len(known), ccp.MaxReported)])
	for _, via := range m.ways(i) {
		m.out = append(m.out, Ask{Interface: via, About: f.Number, ID: m.nextID, Report: r})
	}
}

// ways are the interfaces to ask by: the one in question if it has carrier, and for each living member the one it was
// heard on last.
func (m *Machine) ways(about int) []int {
	var out []int
	if m.ifaces[about].link.Up {
		out = append(out, about)
	}
	for id := range m.peers {
		if !m.peers[id].alive {
			continue
		}
		best := -1
		for i := range m.ifaces {
			if f := &m.ifaces[i]; i != about && f.link.Up && f.view[id].heard != never && (best < 0 || f.view[id].heard > m.ifaces[best].view[id].heard) {
				best = i
			}
		}
		if best >= 0 && !slices.Contains(out, best) {
			out = append(out, best)
		}
	}
	return out
}

// proved reports whether our own interface has worked in both directions since the trouble began: a neighbour has
// answered, or another member is heard and hears us.
func (m *Machine) proved(f *iface, missing []uint8) bool {
	if f.answered >= f.since && m.now.Sub(f.answered) < m.memory(f) {
		return true
	}
	for id := range m.peers {
		v := &f.view[id]
		if m.peers[id].alive && !slices.Contains(missing, uint8(id)) && v.deaf == never && m.now.Sub(v.said) < 3*Round && m.now.Sub(v.heard) < m.cfg.Silence {
			return true
		}
	}
	return false
}

// memory is how long evidence of the questions counts: two rounds.
func (m *Machine) memory(f *iface) time.Duration { return 2*f.wait + Round }

// finding is what the evidence says at one moment.
type finding struct {
	Verdict
	proof Instant // for Ours: when the peer's interface worked
}

func found(k Kind, format string, args ...any) finding {
	return finding{Verdict: Verdict{Kind: k, Text: fmt.Sprintf(format, args...)}}
}

func ours(proof Instant, format string, args ...any) finding {
	f := found(Ours, format, args...)
	f.proof = proof
	return f
}

// find says what the evidence means.
func (m *Machine) find(f *iface, silent, deaf []uint8, living int) finding {
	if !f.link.Up {
		return m.findCarrier(f)
	}
	missing := append(slices.Clone(silent), deaf...)
	proved := m.proved(f, missing)
	if living == 0 {
		switch {
		case proved:
			return found(Alone, "no other member is alive; neighbours answer here")
		case m.now.Sub(f.framed) < m.memory(f):
			return found(Alone, "no other member is alive; frames arrive here")
		}
		return found(Alone, "nothing is received, and no other member is alive to compare with")
	}
	if worst, ok := m.unheard(f, deaf, living); ok && !proved {
		return worst
	}
	var best finding
	var texts []string
	for _, id := range missing {
		v := m.findPeer(f, id, slices.Contains(deaf, id), proved)
		if v.Kind > best.Kind {
			best.Kind, best.proof = v.Kind, v.proof
			texts = slices.Insert(texts, 0, v.Text)
		} else {
			texts = append(texts, v.Text)
		}
		if v.Kind == Ours {
			texts = texts[:1]
			break
		}
	}
	best.Text = strings.Join(texts, "; ")
	return best
}

// unheard finds that nobody hears us although the others, two at least, have proved their interfaces.
func (m *Machine) unheard(f *iface, deaf []uint8, living int) (finding, bool) {
	if len(deaf) < 2 || len(deaf) < living {
		return finding{}, false
	}
	proof, who := never, []string(nil)
	for _, id := range deaf {
		if !m.better(f, id) {
			return finding{}, false
		}
		proof = max(proof, f.view[id].proof)
		who = append(who, m.peers[id].name)
	}
	return ours(proof, "our side: nothing of ours arrives: %s hear others here, not us", names(who)), true
}

// better reports whether a peer has proved its interface since ours fell silent, and a short time ago.
func (m *Machine) better(f *iface, id uint8) bool {
	v := &f.view[id]
	return v.replied >= f.since && m.now.Sub(v.replied) < m.memory(f) && v.proof >= f.silent.Add(ReplyMargin) && m.now.Sub(v.proof) < m.memory(f)
}

func (m *Machine) findCarrier(f *iface) finding {
	if !f.link.Present {
		return found(Carrier, "our side: the NIC is missing")
	}
	var down, up []string
	for id := range m.peers {
		if v := &f.view[id]; m.peers[id].alive && v.replied >= f.since {
			if v.report.Carrier {
				up = append(up, m.peers[id].name)
			} else {
				down = append(down, m.peers[id].name)
			}
		}
	}
	switch {
	case len(up) > 0:
		return found(Carrier, "our side: no carrier here, %s has it: our port, our cable or our switch port", names(up))
	case len(down) > 0:
		return found(Carrier, "no carrier here nor at %s: the switch is off, or it is one cable", names(down))
	}
	return found(Carrier, "our side: no carrier")
}

// findPeer says what the evidence means for the way between us and one member.
func (m *Machine) findPeer(f *iface, id uint8, deaf, proved bool) finding {
	v, name := &f.view[id], m.peers[id].name
	replied := v.replied >= f.since && m.now.Sub(v.replied) < m.memory(f)
	theirs := m.better(f, id)
	frames := f.framed >= f.silent.Add(m.cfg.Silence) && m.now.Sub(f.framed) < m.memory(f)
	switch {
	case !proved && theirs && !frames:
		return ours(v.proof, "our side: nothing at all is received; neighbours answer %s, not us", name)
	case !proved && theirs && f.toldRound > 0 && f.round >= f.toldRound+RoundsOurs:
		return ours(v.proof, "our side: %s answers %s, not us", texts(f), name)
	case replied && !v.report.Beats:
		return found(Unknown, "%s sends no heartbeats here: its node file has them switched off", name)
	case replied && !v.report.Carrier:
		return found(Theirs, "%s's side: no carrier there", name)
	case !deaf && v.passed >= f.since && m.now.Sub(v.passed) < m.memory(f)+Round:
		return found(Filtered, "CCP of %s arrives, its heartbeats do not: something between drops frames with wrong checksums (bridge-nf-call-iptables?); set 'checksums: valid' on all members", name)
	case deaf:
		return found(OneWay, "path one way only: we hear %s, %s does not hear us%s", name, name, m.besides(proved, replied, theirs, name))
	case replied && v.deaf == never:
		return found(OneWay, "path one way only: %s hears us, we do not hear %s%s", name, name, m.besides(proved, replied, theirs, name))
	case proved && theirs:
		return found(Split, "between: neighbours answer here and at %s, but the two members do not hear each other: the LAN is split", name)
	case proved && replied && !v.report.Frames:
		return found(Theirs, "%s's side: neighbours answer here, %s alone is silent and receives nothing at all", name, name)
	case proved:
		return found(Theirs, "%s's side: neighbours answer here, %s alone is silent", name, name)
	case replied && !theirs && !frames && !v.report.Frames:
		return found(LAN, "the LAN: nothing is received here nor at %s: the switch, or the cable between", name)
	case theirs:
		return found(Unknown, "neighbours answer %s; not clear yet whether they answer us", name)
	case replied:
		return found(Unknown, "we do not hear %s, nor it us, and no neighbour answers either of us", name)
	}
	return found(Unknown, "%s is silent and does not answer questions about this interface; no neighbour answers here", name)
}

// besides adds what neighbours say of a way that works in one direction.
func (m *Machine) besides(proved, replied, theirs bool, name string) string {
	switch {
	case proved && theirs:
		return "; neighbours answer both"
	case proved && replied:
		return "; neighbours answer here, not at " + name
	case theirs:
		return "; neighbours answer at " + name
	}
	return ""
}

// texts names the neighbours that answered a peer.
func texts(f *iface) string {
	var out []string
	for _, a := range f.told {
		out = append(out, a.String())
	}
	return names(out)
}

func names(list []string) string { return strings.Join(list, ", ") }
