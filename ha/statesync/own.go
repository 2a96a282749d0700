package statesync

import "time"

// Timeouts of entries that come without one, because a flow table has them: those of the kernel.
const (
	offloadTCP   = 432000
	offloadOther = 120
)

// pass is one walk through the kernel's table.
type pass struct {
	running bool
	number  uint32
	start   uint32 // clock when it began
	began   time.Duration
	flows   int
}

// Events takes in what the kernel told. lost means that it had to throw events away.
func (m *Machine) Events(now time.Duration, events []Event, lost bool) {
	m.now = now
	m.settle()
	m.clock++
	for i := range events {
		m.event(&events[i])
	}
	m.landed.Store(m.clock)
	if lost {
		m.Stats.Lost++
		m.hurry, m.hurried = true, m.now
		m.out.Log(Warning, "the kernel had to drop connection events; comparing with its whole table")
		m.out.Walk()
	}
	m.flush()
}

func (m *Machine) event(e *Event) {
	switch e.Kind {
	case EventNew, EventUpdate, EventDestroy:
		f := &e.Flow
		if !m.local.Carries(f) {
			m.Stats.Local++
			return
		}
		m.Stats.Events++
		key := m.table.hash.Flow(f)
		if e.Kind == EventDestroy {
			m.ended(key, func(b []byte) []byte { return AppendFlow(b, OpDelete, f) })
			return
		}
		normalise(f)
		m.changed(key, e.Kind == EventNew, f)
	case EventExpect, EventExpectDestroy:
		x := e.Expect
		if !m.carries(x) {
			return
		}
		m.Stats.Events++
		key := m.table.hash.Expect(x)
		if e.Kind == EventExpectDestroy {
			delete(m.early, m.table.hash.Flow(x.master()))
			m.ended(key, func(b []byte) []byte { return AppendExpect(b, OpExpectDelete, x) })
			return
		}
		m.expected(key, x)
	}
}

// maxEarly bounds the expectations that wait for their masters.
const maxEarly = 4096

// expected takes in an expectation. That of a connection's first packet is told before the connection itself, and could not
// be made without it: it waits.
func (m *Machine) expected(key uint64, x *Expect) {
	master := x.master()
	of := m.table.hash.Flow(master)
	if _, known := m.table.entries[of]; !known && len(m.early) < maxEarly {
		m.early[of] = append(m.early[of], x)
		return
	}
	m.table.put(key, record{status: recExpect, stamp: m.clock, until: m.second() + x.Timeout})
	if m.sharing() {
		m.tell(func(b []byte) []byte { return AppendExpect(b, OpExpect, x) })
		// The helper changes the length of what announces the connection, and the kernel tells nobody.
		m.out.Fetch(*master)
	}
}

// met takes in what waited for a connection.
func (m *Machine) met(master uint64) {
	waited := m.early[master]
	delete(m.early, master)
	for _, x := range waited {
		m.expected(m.table.hash.Expect(x), x)
	}
}

// carries reports whether an expectation concerns the cluster and can be carried.
func (m *Machine) carries(x *Expect) bool {
	return x.Helper != "" && knownHelper(x.Helper) && knownFunction(x.Fn) && checkAddresses(x.Family, &x.Master) == nil &&
		!m.local.Has(&x.Master) && x.Flags <= 7 && x.Class <= 8
}

// tcpEstablished is TCP_CONNTRACK_ESTABLISHED.
const tcpEstablished = 3

// normalise makes what the kernel said something that can be carried.
func normalise(f *Flow) {
	if f.Has&HasTimeout == 0 {
		f.Timeout, f.Has = offloadOther, f.Has|HasTimeout
		if f.Orig.Proto == TCP {
			f.Timeout = offloadTCP
		}
	}
	if f.Status&StatusOffload != 0 && f.Orig.Proto == TCP && f.Has&HasTCP == 0 {
		// The kernel offloads no other state (nft_flow_offload_eval). A member that joins has no older one to keep.
		f.TCP.State, f.Has = tcpEstablished, f.Has|HasTCP
	}
	if f.Has&HasHelper != 0 && !knownHelper(f.Helper) {
		f.Has &^= HasHelper
	}
	if f.Has&HasTCP != 0 && (f.TCP.State > maxTCPState || f.Orig.Proto != TCP) {
		f.Has &^= HasTCP
	}
	if f.Has&HasSCTP != 0 && (f.SCTP.State > 9 || f.Orig.Proto != SCTP) {
		f.Has &^= HasSCTP
	}
}

func (m *Machine) second() uint32 { return uint32(m.now / time.Second) }

// changed takes in a new or changed connection that packets or a program made here.
func (m *Machine) changed(key uint64, isNew bool, f *Flow) {
	old, known := m.table.entries[key]
	r := m.table.merge(old, known, isNew, f)
	r.stamp = m.clock
	switch {
	case m.role.Holder:
		r.status &^= recLocal
		r.until = m.second() + f.Timeout
		m.tell(func(b []byte) []byte { return AppendFlow(b, OpSet, f) })
	case m.sharing():
		if !known {
			m.tell(func(b []byte) []byte { return AppendFlow(b, OpAdd, f) })
		}
	case !known:
		r.status |= recLocal
	}
	m.table.put(key, r)
	if len(m.early) > 0 {
		m.met(key)
	}
}

// ended takes in the end of an entry. Only the holder's counts for others; at a standby it is an entry that ran out.
func (m *Machine) ended(key uint64, say func([]byte) []byte) {
	if !m.table.remove(key) {
		return
	}
	m.bury(key)
	if m.role.Holder {
		m.tell(say)
	} else {
		m.Stats.Expired++
	}
}

// bury remembers for the running walk that an entry has ended: a piece of the table may still have it.
func (m *Machine) bury(key uint64) {
	if m.pass.running {
		m.tombs[0][key] = struct{}{}
	}
}

func (m *Machine) buried(key uint64) bool {
	for i := range m.tombs {
		if _, yes := m.tombs[i][key]; yes {
			return true
		}
	}
	return false
}

// tell adds a change to the delta.
func (m *Machine) tell(add func([]byte) []byte) {
	if m.delta.b == nil {
		m.seq++
		m.delta.delta(deltaHeader{seq: m.seq, time: int64(m.now), term: m.role.Term, holder: m.role.Holder})
	}
	m.delta.b = add(m.delta.b)
	m.delta.count++
	m.Stats.Told++
	if m.delta.full() {
		m.flush()
	}
}

// flush sends the delta to every peer.
func (m *Machine) flush() {
	if m.delta.b == nil {
		return
	}
	frame := m.delta.done()
	for _, p := range m.peers {
		if !p.up {
			continue
		}
		if m.out.Send(p.id, frame) {
			p.sent = m.seq
		} else {
			m.Stats.Overflows++ // it will see the gap, and the digest
		}
	}
}

// PassBegin begins a walk. Repairs that peers asked for are made by it.
func (m *Machine) PassBegin(now time.Duration) {
	m.now = now
	m.settle()
	m.pass = pass{running: true, number: m.pass.number + 1, start: m.clock, began: now}
	for i := range m.tombs {
		clear(m.tombs[i])
	}
	for _, p := range m.peers {
		if p.diffWant {
			p.diffWant, p.diffAsk = false, true
		}
		if p.need.Empty() {
			continue
		}
		p.repair, p.need = p.need, Bits{}
		if !m.role.Holder || !p.up {
			p.repair = Bits{}
			continue
		}
		m.flush()
		m.out.Send(p.id, bitsFrame(TypeRepairBegin, &p.repair))
		m.Stats.RepairsGiven++
	}
}

// Chunk takes in a piece of the table. mark is the clock before the piece was made; it was made after the piece three
// before it was taken in.
func (m *Machine) Chunk(now time.Duration, mark uint32, entries []Event) {
	m.now = now
	m.settle()
	for i := range entries {
		e := &entries[i]
		if e.Kind == EventExpect {
			if m.carries(e.Expect) {
				m.seenExpect(e.Expect)
			}
			continue
		}
		m.pass.flows++
		key := m.table.hash.Flow(&e.Flow)
		if !m.local.Carries(&e.Flow) {
			m.table.remove(key)
			continue
		}
		m.seen(key, mark, &e.Flow)
	}
	m.flush()
	m.apply()
	m.tombs[0], m.tombs[1], m.tombs[2] = m.tombs[2], m.tombs[0], m.tombs[1]
	clear(m.tombs[0])
}

// seen compares one entry of the kernel with the model.
func (m *Machine) seen(key uint64, mark uint32, f *Flow) {
	if m.buried(key) {
		return
	}
	normalise(f)
	old, known := m.table.entries[key]
	if known && old.status&recDoomed != 0 {
		m.table.remove(key)
		m.bury(key)
		m.ops = append(m.ops, KernelOp{Kind: KernelDelete, Key: key, Flow: *f})
		m.Stats.Removed++
		return
	}
	r := m.table.merge(old, known, true, f)
	if f.Status&StatusOffload != 0 && known {
		r.state = old.state
	}
	r.seen = m.pass.number
	if !m.Listens() {
		r.status &^= recLocal // this member is a standby and nothing else: the holder's table counts
	}
	switch {
	case known && int32(old.stamp-mark) > 0:
		old.seen = m.pass.number
		m.table.touch(key, old)
		patch(f, &old)
	case !known || !same(&old, &r) || old.status&recLocal != r.status&recLocal || m.role.Holder && old.status&recLocal != 0:
		m.found(key, known, r, f)
	default:
		if m.role.Holder && stale(old.until, m.second(), f.Timeout) {
			r.until = m.second() + f.Timeout
			m.tell(func(b []byte) []byte { return AppendFlow(b, OpSet, f) })
			m.Stats.Refreshed++
		}
		m.table.touch(key, r)
	}
	m.repairWith(key, func(b []byte) []byte { return AppendFlow(b, OpSet, f) })
}

// stale reports whether copies that run out at until have less than half of what the entry itself has left.
func stale(until, now, timeout uint32) bool { return int64(until)-int64(now) < int64(timeout)/2 }

// patch brings a flow of an older piece up to what the model knows of it.
func patch(f *Flow, r *record) {
	f.Status &^= StatusSeenReply | StatusAssured
	if r.status&recReply != 0 {
		f.Status |= StatusSeenReply
	}
	if r.status&recAssured != 0 {
		f.Status |= StatusAssured
	}
	if f.Has&HasTCP != 0 {
		f.TCP.State = r.state
	}
	f.Mark = r.mark
	f.Has |= HasMark
}

// found takes in an entry that the model did not know, or knew otherwise: an event was lost, or this is the first walk.
func (m *Machine) found(key uint64, known bool, r record, f *Flow) {
	r.stamp = m.clock
	if m.loaded {
		m.Stats.Found++
	}
	if m.role.Holder {
		r.status &^= recLocal
		if m.loaded {
			r.until = m.second() + f.Timeout
			m.tell(func(b []byte) []byte { return AppendFlow(b, OpSet, f) })
		}
	}
	if !known && !m.loaded {
		r.until = m.second() + f.Timeout/4*3
	}
	m.table.put(key, r)
}

func (m *Machine) seenExpect(x *Expect) {
	key := m.table.hash.Expect(x)
	if m.buried(key) {
		return
	}
	old, known := m.table.entries[key]
	if known && old.status&recDoomed != 0 {
		m.table.remove(key)
		m.bury(key)
		m.ops = append(m.ops, KernelOp{Kind: KernelExpectDelete, Key: key, Expect: x})
		m.Stats.Removed++
		return
	}
	r := record{status: recExpect, stamp: old.stamp, until: old.until, seen: m.pass.number}
	say := func(b []byte) []byte { return AppendExpect(b, OpExpect, x) }
	if !known {
		r.stamp, r.until = m.clock, m.second()+x.Timeout
		if m.role.Holder && m.loaded {
			m.tell(say)
		}
	}
	m.table.put(key, r)
	m.repairWith(key, say)
}

// repairWith tells an entry to the peers whose repair it belongs to.
func (m *Machine) repairWith(key uint64, say func([]byte) []byte) {
	n := bucket(key)
	for _, p := range m.peers {
		if p.repair.Has(n) {
			m.add(p, &p.part, TypeRepair, say)
			m.Stats.Repaired++
		}
		if p.diffAsk && p.diffBits.Has(n) {
			m.add(p, &p.diffPart, TypeDiffPart, say)
		}
	}
	if m.diff != nil {
		m.diff.mine(n, key, say)
	}
}

func (m *Machine) add(p *peer, w *bundle, t Type, say func([]byte) []byte) {
	if w.b == nil {
		w.open(t)
	}
	w.b = say(w.b)
	if w.count++; w.full() {
		m.flush() // what was told before must arrive before
		m.out.Send(p.id, w.done())
	}
}

// PassEnd ends a walk that has seen everything: what it has not seen is gone.
func (m *Machine) PassEnd(now time.Duration) {
	m.now = now
	m.settle()
	for key, r := range m.table.entries {
		if r.seen == m.pass.number || int32(r.stamp-m.pass.start) > 0 {
			continue
		}
		if r.status&recDoomed == 0 && m.loaded {
			m.Stats.Gone++
		}
		m.table.remove(key)
		if m.role.Holder {
			m.gone = append(m.gone, key)
		}
	}
	m.tellGone()
	clear(m.early) // the walk has seen what is still expected
	m.pass.running = false
	m.loaded = true
	m.hurry = m.hurry && m.hurried > m.pass.began
	for _, p := range m.peers {
		if !p.repair.Empty() {
			if p.part.b != nil {
				m.out.Send(p.id, p.part.done())
			}
			m.out.Send(p.id, bitsFrame(TypeRepairEnd, &p.repair))
			p.repair = Bits{}
			m.sendDigest(p)
		}
		m.endDiff(p)
	}
	m.ownDiff()
	m.judge()
	m.Stats.Passes++
	m.Stats.PassTook = now - m.pass.began
}

// PassFailed ends a walk that broke off. What depended on it is asked for again.
func (m *Machine) PassFailed(now time.Duration) {
	m.now = now
	m.pass.running = false
	for _, p := range m.peers {
		p.need.Or(&p.repair)
		p.repair, p.part = Bits{}, bundle{}
		p.diffWant = p.diffWant || p.diffAsk
		p.diffAsk, p.diffPart = false, bundle{}
	}
}

// tellGone tells of entries that ended unnoticed.
func (m *Machine) tellGone() {
	m.flush()
	for len(m.gone) > 0 {
		n := min(len(m.gone), fullFrame/8)
		var w bundle
		w.open(TypeGone)
		for _, key := range m.gone[:n] {
			w.b = appendU64(w.b, key)
		}
		w.count = n
		frame := w.done()
		for _, p := range m.peers {
			if p.up {
				m.out.Send(p.id, frame)
			}
		}
		m.gone = m.gone[n:]
	}
	m.gone = nil
}

// WalkAnew reports whether the walk that runs should end with [Machine.PassFailed] and another begin: it is in nobody's
// service, and a peer waits for the next one.
func (m *Machine) WalkAnew() bool {
	waits := false
	for _, p := range m.peers {
		if !p.repair.Empty() || p.diffAsk {
			return false
		}
		waits = waits || !p.need.Empty() || p.diffWant
	}
	return waits && m.pass.running && m.diff == nil
}

// Repairing reports whether a walk should go fast: somebody waits for it.
func (m *Machine) Repairing() bool {
	if !m.loaded || m.hurry || m.table.doomed > 0 || m.diff != nil {
		return true
	}
	for _, p := range m.peers {
		if !p.repair.Empty() || !p.need.Empty() || p.diffAsk || p.diffWant {
			return true
		}
	}
	return false
}
