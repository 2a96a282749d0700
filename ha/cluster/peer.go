package cluster

import (
	"fmt"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// peer is one other member as this one sees it.
type peer struct {
	id       uint8
	priority uint8

	alive bool
	// orderly is set when its last farewell was its own decision.
	orderly bool
	view    wire.Beat // the newest accepted heartbeat, without whom it hears
	// namedAt is the term with which it has named the successor that its heartbeats tell. The term they tell themselves grows with what it hears.
	namedAt uint64

	lastHeard Instant
	lastOn    int // index of the interface it was last heard on, -1 if never

	nonce    uint64   // the boot we believe in, 0 if none yet
	departed uint64   // the boot that said farewell last, 0 if none
	retired  []uint64 // boots that have ended: never believed again

	// echoed is the highest sequence of ours that the peer says it has heard, echoSent when we sent it, echoAt when we
	// heard so.
	echoed           uint64
	echoSent, echoAt Instant
	// echoFloor is the highest sequence of ours that boots of it which are over have heard: a later one has heard more.
	echoFloor uint64
	clocks    clocks
	// steady is since when its heartbeats arrive without a gap.
	steady Instant
	// newcomer is the last heartbeat, on any interface, of a boot that has not proved itself.
	newcomer   wire.Heard
	newcomerAt Instant
	// rumour is what others said last that they hear of a boot of it that we do not believe in, rumourAt when that was news.
	rumour   wire.Heard
	rumourAt Instant
	// vouched is the highest sequence that another member says it has heard of this one, beyond what we heard
	// ourselves, and when it said so.
	vouched   uint64
	vouchedAt Instant
	// heldAt is when another member said so last that took it for the holder as well.
	heldAt Instant

	gone      string  // why it is not alive
	odd       Instant // no further log of a cabling or hardware oddity before this
	differing differing

	newest [MaxInterfaces + 1]uint64 // highest sequence accepted, by the sender's interface number
	heard  [MaxInterfaces]heard      // by our interface index: what we echo
}

type heard struct {
	nonce, seq uint64
	at         Instant
	count      uint64
}

func newPeer(c Member) *peer {
	return &peer{id: c.ID, priority: c.Priority, lastOn: -1, gone: "never heard", echoSent: longAgo, echoAt: longAgo, rumourAt: longAgo, heldAt: longAgo}
}

// maxRetired bounds the memory of ended boots. An older recording fails the echo as well.
const maxRetired = 16

// receive judges a heartbeat whose tag was right and takes in what it says.
func (m *Machine) receive(iface int, b *wire.Beat) {
	if iface < 0 || iface >= len(m.cfg.Interfaces) {
		return
	}
	if b.Cluster != m.cfg.Cluster {
		m.refuse(iface, wire.Foreign, "")
		return
	}
	if b.Member == m.cfg.Self {
		m.refuse(iface, wire.Myself, "")
		return
	}
	if int(b.Member) >= len(m.peers) || m.peers[b.Member] == nil {
		m.refuse(iface, wire.Unknown, "")
		return
	}
	if !possible(b) {
		m.refuse(iface, wire.Malformed, "")
		return
	}
	p := m.peers[b.Member]
	if b.Has(wire.Farewell) || b.Seq == wire.FinalSeq {
		m.farewell(iface, p, b)
		return
	}
	if !m.fresh(iface, p, b) {
		return
	}
	p.newest[b.Interface] = b.Seq
	h := &p.heard[iface]
	*h = heard{nonce: b.Nonce, seq: b.Seq, at: m.now, count: h.count + 1}
	m.checkCabling(iface, p, b)

	if p.alive && b.Seq < p.view.Seq && b.Nonce == p.view.Nonce {
		return // overtaken by a newer one on another interface
	}
	if !p.alive || m.now.Sub(p.lastHeard) > 2*m.cfg.Timing.Beat {
		p.steady = m.now
	}
	m.compareClocks(p, b)
	p.lastHeard, p.lastOn = m.now, iface
	wasHolder := p.view.Has(wire.Holder) && p.alive
	const gaveUp = wire.Ceded | wire.Yielding
	switch again := !p.alive || p.view.Term != b.Term; { // with another term it has held the role once more, unheard here
	case m.active() && b.Has(wire.Ceded) && (again || !p.view.Has(wire.Ceded)):
		m.announceAgain() // switches may point at it
	case m.vacant != Never && b.Flags&gaveUp != 0 && (again || p.view.Flags&gaveUp == 0):
		m.vacant = m.now // the role has been vacant since now only
	}
	if p.view.Has(wire.Holder) || b.Has(wire.Holder) {
		m.holderKnown = false
	}
	if b.Has(wire.Yielding) && (!p.alive || !p.view.Has(wire.Yielding) || p.view.Successor != b.Successor) {
		p.namedAt = b.Term
	}
	p.view = *b
	p.view.Heard, p.view.Extension = nil, nil // their memory may be used again
	if !p.alive {
		p.alive, p.orderly, p.gone = true, false, ""
		if m.active() {
			// It may have held the role while we did not hear it, and given it up at our first heartbeat; the
			// switches may still point at it.
			m.announceAgain()
		}
		m.log(Notice, EvPeerAlive, fmt.Sprintf("%s is alive: heard on %s, %s with term %d", m.name(p.id), m.cfg.Interfaces[iface].Name, b.State, b.Term))
	}
	m.comparePolicy(p, b)
	m.hearsay(b)
	if b.Term > m.term {
		m.term = b.Term
		if m.active() {
			m.term++ // somebody held the role out of our sight; whoever keeps it now has the higher term
			m.announceAgain()
			// A member that starts may remember a term of a time when this one knew nothing.
			if m.quorum() && !m.forced && !m.doubt.on && b.State != wire.Init {
				m.doubt = doubt{on: true, until: m.now.Add(m.cfg.Timing.vote()), floor: m.seq}
			}
		}
		m.emit(KeepTerm(m.term))
	}
	if b.Has(wire.Holder) {
		p.gone = ""
		m.yieldUntil = min(m.yieldUntil, m.now) // the hand-over is done
	}
	if b.Has(wire.Holder) && !wasHolder && m.lastHolder != p.id {
		m.lastHolder = p.id
		m.recordFailover(p.id, fmt.Sprintf("%s took the role with term %d", m.name(p.id), b.Term))
	}
	if wasHolder && !b.Has(wire.Holder) && !m.active() {
		p.gone = fmt.Sprintf("%s gave the role away (%s, demotion %d)", m.name(p.id), b.State, b.Demotion)
	}
}

// possible reports whether a heartbeat says what its sender can say: a witness holds nothing, a member does not judge only.
func possible(b *wire.Beat) bool {
	if int(b.Interface) > MaxInterfaces {
		return false
	}
	if b.Member <= MaxMembers {
		return b.State >= wire.Init && b.State <= wire.Down
	}
	return (b.State == wire.Witness || b.State == wire.Init || b.State == wire.Down) && b.Flags&(wire.Holder|wire.Bidding|wire.Claiming) == 0
}

// fresh refuses replays, and believes a new boot only when it proves that it hears us now.
func (m *Machine) fresh(iface int, p *peer, b *wire.Beat) bool {
	if b.Nonce == p.nonce {
		if b.Seq <= p.newest[b.Interface] {
			m.refuse(iface, wire.Replay, "")
			return false
		}
		return true
	}
	if slices.Contains(p.retired, b.Nonce) {
		m.refuse(iface, wire.Replay, "")
		return false
	}
	if !m.echoed(p, b) {
		// Echo it, so that it can prove itself; until then nothing it says counts, but its term: even a recording shows one that was used.
		m.heardTerm = max(m.heardTerm, b.Term)
		h := &p.heard[iface]
		h.nonce, h.seq = b.Nonce, b.Seq
		p.newcomer, p.newcomerAt = wire.Heard{Member: p.id, Nonce: b.Nonce, Seq: b.Seq}, m.now
		c := m.refused[wire.Unproven]
		if c == nil {
			c = &refusal{}
			m.refused[wire.Unproven] = c
		}
		c.count++ // not logged: every start of a peer passes through here
		return false
	}
	m.retire(p)
	p.nonce = b.Nonce
	return true
}

// echoed reports whether b echoes our boot and a sequence we sent within about four dead times, and a later one than any that a boot of the peer we have believed in has
// heard: boots follow each other, so an earlier one, which nobody believed in and somebody has recorded, has heard less.
func (m *Machine) echoed(p *peer, b *wire.Beat) bool {
	t := &m.cfg.Timing
	window := uint64(len(m.slots)+1)*uint64(4*t.Dead/t.Beat) + 64
	for _, h := range b.Heard {
		if h.Member == m.cfg.Self && h.Nonce == m.cfg.Nonce && h.Seq <= m.seq && h.Seq+window >= m.seq {
			return h.Seq > max(p.echoed, p.echoFloor)
		}
	}
	return false
}

// retire ends a peer's boot: nothing with its nonce is believed again.
func (m *Machine) retire(p *peer) {
	if p.nonce != 0 {
		p.retired = append(p.retired, p.nonce)
		if len(p.retired) > maxRetired {
			p.retired = slices.Delete(p.retired, 0, len(p.retired)-maxRetired)
		}
	}
	p.echoFloor = max(p.echoFloor, p.echoed)
	p.nonce, p.vouched, p.echoed, p.echoSent, p.echoAt = 0, 0, 0, longAgo, longAgo
	p.newest = [MaxInterfaces + 1]uint64{}
}

// hearsay takes in whom the sender of b hears: a member that is silent here may be alive all the same, when only the
// path between it and us is cut.
func (m *Machine) hearsay(b *wire.Beat) {
	for i := range b.Heard {
		h := &b.Heard[i]
		if h.Member == m.cfg.Self && h.Nonce == m.cfg.Nonce && h.Seq <= m.seq {
			if from := m.peers[b.Member]; h.Seq > from.echoed {
				sent := m.sentAt(h.Seq)
				if sent.Sub(from.echoSent) >= m.now.Sub(from.echoAt)/2 { // else it is news of old, from an interface that is back
					from.echoAt = m.now
				}
				from.echoed, from.echoSent = h.Seq, sent
			}
		}
		if int(h.Member) >= len(m.peers) {
			continue
		}
		p := m.peers[h.Member]
		if p != nil && h.Member != b.Member && h.Nonce != p.nonce && (h.Nonce != p.rumour.Nonce || h.Seq > p.rumour.Seq) && !slices.Contains(p.retired, h.Nonce) {
			p.rumour, p.rumourAt = *h, m.now
		}
		if p != nil && p.nonce != 0 && p.nonce == h.Nonce && h.Member != b.Member && h.Seq > max(p.view.Seq, p.vouched) {
			p.vouched, p.vouchedAt = h.Seq, m.now
			if b.Vote == p.id {
				p.heldAt = m.now
			}
		}
	}
}

// heldElsewhere is the member that holds the role as others say, when it is silent here: it held it last and others,
// who take it for the holder, have heard it within the dead time, or others take it for the holder and it never said so here. The role is not vacant
// then. Nil otherwise.
func (m *Machine) heldElsewhere() *peer {
	if p := m.peer(m.lastHolder); p != nil && !p.alive && p.nonce != 0 && m.now.Sub(p.heldAt) < m.cfg.Timing.Dead {
		return p
	}
	for _, p := range m.others {
		if !p.alive || p.view.Vote == m.cfg.Self || p.view.Vote == p.id {
			continue
		}
		if h := m.peer(p.view.Vote); h != nil && !h.alive && h.id != m.lastHolder {
			return h
		}
	}
	return nil
}

func (m *Machine) farewell(iface int, p *peer, b *wire.Beat) {
	if p.departed != 0 && b.Nonce == p.departed {
		return // it was said on every interface, and heard on another one already
	}
	if b.Nonce != p.nonce || p.nonce == 0 {
		m.refuse(iface, wire.Replay, "")
		return
	}
	if m.active() {
		m.announceAgain() // it may have held the role until now, and what said so may be late or lost
	}
	p.departed, p.orderly = b.Nonce, b.Has(wire.Yielding)
	if p.id == m.successorID {
		m.yieldUntil = min(m.yieldUntil, m.now) // there is nobody to yield to
	}
	m.retire(p)
	m.bury(p, fmt.Sprintf("%s said farewell on %s", m.name(p.id), m.cfg.Interfaces[iface].Name))
}

// bury takes a peer for gone.
func (m *Machine) bury(p *peer, why string) {
	if !p.alive {
		return
	}
	p.alive, p.gone, m.holderKnown = false, why, false
	what := "stays " + m.state.String()
	if p.view.Has(wire.Holder) && !m.active() {
		what = "was the active member"
	}
	m.log(Notice, EvPeerGone, why+"; "+what)
}

// silence buries peers that have not been heard on any interface for the dead time.
func (m *Machine) silence() {
	for _, p := range m.others {
		if !p.alive {
			continue
		}
		if d := m.now.Sub(p.lastHeard); d >= m.dead() {
			m.bury(p, fmt.Sprintf("%s is silent for %v on all interfaces (dead time %v), last heartbeat %d on %s",
				m.name(p.id), d.Round(100*time.Microsecond), m.dead(), p.view.Seq, m.ifaceName(p.lastOn)))
		}
	}
}

// checkCabling names what does not match between two members' hardware and cables; the heartbeat counts
// all the same, because ignoring it would make two actives (seed 004, Solution-3).
func (m *Machine) checkCabling(iface int, p *peer, b *wire.Beat) {
	f := &m.cfg.Interfaces[iface]
	if m.now < p.odd || b.Interface == f.Number && b.NN == f.NN {
		return
	}
	p.odd = m.now.Add(logPeriod)
	if b.Interface != f.Number {
		name := EvNonSyncIface
		if f.Sync {
			name = EvSyncIface
		}
		m.log(Warning, name, fmt.Sprintf("a heartbeat that left %s by its interface %d arrived on %s (interface %d); compare the cables of both members",
			m.name(p.id), b.Interface, f.Name, f.Number))
		return
	}
	name := EvHardware
	if f.Sync {
		name = EvSyncIface
	}
	m.log(Warning, name, fmt.Sprintf("%s: NN is %02x at %s and %02x here, so the shared MACs differ; compare 'hardware' on both members: the NIC sits in another PCI place", f.Name, b.NN, m.name(p.id), f.NN))
}

func (m *Machine) ifaceName(i int) string {
	if i < 0 || i >= len(m.cfg.Interfaces) {
		return "no interface"
	}
	return m.cfg.Interfaces[i].Name
}
