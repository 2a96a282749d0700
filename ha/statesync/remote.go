package statesync

import (
	"encoding/binary"
	"time"
)

func appendU64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// Frame takes in a frame of a peer. An error means that the session must end; nothing of the frame was done then.
func (m *Machine) Frame(now time.Duration, from uint8, t Type, payload []byte) error {
	m.now = now
	p := m.peers[from]
	if p == nil || !p.up {
		return because(OutOfOrder, "a frame of type %d before the hello", t)
	}
	c := cursor{b: payload}
	err := m.frame(p, t, &c)
	if err == nil && c.bad {
		err = because(Truncated, "a frame of type %d with %d bytes", t, len(payload))
	}
	return err
}

func (m *Machine) frame(p *peer, t Type, c *cursor) error {
	if t != TypeDelta && t != TypeRepair {
		m.settle() // what they tell is about a table that has everything before them
	}
	switch t {
	case TypeDelta:
		return m.takeDelta(p, c)
	case TypeRepair:
		return m.takeRepair(p, c)
	case TypeDigest:
		return m.takeDigest(p, c)
	case TypeNeed:
		if bits := c.bits(); !c.bad {
			p.need.Or(&bits)
			m.out.Walk()
		}
	case TypeRepairBegin:
		if c.bits(); !c.bad && m.source() == p && !m.role.Holder {
			m.clock++
			m.landed.Store(m.clock)
			p.start, p.begun = m.clock, true
		}
	case TypeRepairEnd:
		return m.takeRepairEnd(p, c)
	case TypeGone:
		return m.takeGone(p, c)
	case TypeBarrier:
		if n := c.u64(); !c.bad {
			m.out.Send(p.id, numberFrame(TypeBarrierAck, n))
		}
	case TypeBarrierAck:
		if n := c.u64(); !c.bad {
			m.out.BarrierAcked(p.id, n)
		}
	case TypeAck:
		if seq, sent := c.u64(), int64(c.u64()); !c.bad {
			p.acknowledged(m.now, seq, sent)
		}
	case TypeState:
		if s := c.state(); !c.bad {
			p.state = s
		}
	case TypeDiffAsk, TypeDiffPart, TypeDiffEnd:
		return m.takeDiff(p, t, c)
	default:
		return because(BadFrame, "type %d within a session", t)
	}
	return nil
}

// acknowledged takes in that a peer has applied a delta sent at that time of this member's clock.
func (p *peer) acknowledged(now time.Duration, seq uint64, sent int64) {
	if seq > p.sent || seq < p.sentAcked {
		return
	}
	p.sentAcked = seq
	p.lag = now - time.Duration(sent)
	if p.lag > p.peak || now-p.peakAt > 10*time.Second {
		p.peak, p.peakAt = p.lag, now
	}
}

// rules reports whether a peer that says so has the role by a term that is not older than any other.
func (m *Machine) rules(p *peer, term uint64, holder bool) bool {
	p.holder, p.term = holder, term
	r := &m.role
	switch {
	case !holder || term < m.term:
		return false
	case r.Holder && term <= r.Term:
		return false
	case !r.Holder && r.Other != 0 && r.Other != p.id && r.Term > term:
		return false
	}
	m.term = term
	return true
}

func (m *Machine) takeDelta(p *peer, c *cursor) error {
	h := c.deltaHeader()
	if err := c.changes(&m.scratch); err != nil {
		return err
	}
	if p.seqIn != 0 && h.seq != p.seqIn+1 {
		m.Stats.Gaps++ // its queue was full; the digest shows what is missing
	}
	p.seqIn, p.timeIn = h.seq, h.time
	m.clock++
	authority := m.rules(p, h.term, h.holder)
	for i := range m.scratch {
		m.take(&m.scratch[i], authority)
	}
	m.apply()
	m.Stats.Taken += uint64(len(m.scratch))
	if p.acked = true; m.now-p.ackedAt >= ackEvery {
		m.ack(p)
	}
	return nil
}

// Acknowledge tells peers at once what was applied of theirs: nothing else is waiting to be taken in.
func (m *Machine) Acknowledge(now time.Duration) {
	m.now = now
	for _, p := range m.peers {
		if p.up && p.acked {
			m.ack(p)
		}
	}
}

// ack tells a peer which of its deltas is in the kernel here.
func (m *Machine) ack(p *peer) {
	m.settle()
	p.acked, p.ackedAt = false, m.now
	m.out.Send(p.id, numberFrame(TypeAck, p.seqIn, uint64(p.timeIn)))
}

func (m *Machine) takeRepair(p *peer, c *cursor) error {
	if err := c.changes(&m.scratch); err != nil {
		return err
	}
	if !p.begun || m.role.Holder {
		m.refuse(StaleTerm) // it began when the role was another's
		return nil
	}
	m.clock++
	for i := range m.scratch {
		m.take(&m.scratch[i], true)
	}
	m.apply()
	m.Stats.Loaded += uint64(len(m.scratch))
	return nil
}

// takeRepairEnd dooms what the holder does not have in the buckets it has sent.
func (m *Machine) takeRepairEnd(p *peer, c *cursor) error {
	bits := c.bits()
	if c.bad || !p.begun {
		return nil
	}
	doomed := m.table.doomed
	for key, r := range m.table.entries {
		if bits.Has(bucket(key)) && int32(r.stamp-p.start) < 0 && r.status&(recDoomed|recLocal) == 0 {
			r.status |= recDoomed
			m.table.put(key, r)
		}
	}
	if m.table.doomed > doomed {
		m.out.Walk()
	}
	p.begun, p.repairing = false, false
	p.nextAsk = m.now + p.backoff
	m.Stats.Repairs++
	return nil
}

func (m *Machine) takeGone(p *peer, c *cursor) error {
	n := int(c.u16())
	if c.bad || n*8 != len(c.b) {
		return because(BadFrame, "%d keys in %d bytes", n, len(c.b))
	}
	if m.source() != p || m.role.Holder {
		m.refuse(StaleTerm)
		return nil
	}
	for range n {
		key := c.u64()
		if r, known := m.table.entries[key]; known && r.status&recDoomed == 0 {
			r.status |= recDoomed
			m.table.put(key, r)
		}
	}
	if m.table.doomed > 0 {
		m.out.Walk()
	}
	return nil
}

func (m *Machine) takeDigest(p *peer, c *cursor) error {
	term, holder := c.u64(), c.u8() == 1
	entries := c.u32()
	var theirs Digest
	c.digest(&theirs)
	if c.bad {
		return nil
	}
	p.entries = entries
	if !m.rules(p, term, holder) || !m.loaded || m.role.Holder {
		return nil // a member that has lost the role unawares compares when it knows
	}
	bits, n := diff(&m.table.digest, &theirs)
	p.differs, p.compared = n, m.now
	m.Stats.Compared++
	if n == 0 {
		p.equal, p.backoff, m.good, m.full = true, 0, m.now, false
		m.judge()
		return nil
	}
	m.Stats.Differed++
	if !p.repairing && m.now >= p.nextAsk {
		p.repairing, p.askedAt = true, m.now
		// The first repairs come at once; those that do not help, more and more slowly.
		p.backoff = min(max(2*p.backoff, DigestEvery/4), maxBackoff)
		m.out.Send(p.id, bitsFrame(TypeNeed, &bits))
	}
	m.judge()
	return nil
}

func (m *Machine) refuse(r Reason) { m.Stats.Refused[r]++ }

// take turns a peer's change into an operation on the kernel's table, and the model's.
func (m *Machine) take(c *Change, authority bool) {
	if c.Op == OpExpect || c.Op == OpExpectDelete {
		m.takeExpect(c, authority)
		return
	}
	f := &c.Flow
	if m.own.Has(&f.Orig) || m.own.Has(&f.Reply) {
		m.refuse(LocalAddress)
		return
	}
	key := m.table.hash.Flow(f)
	old, known := m.table.entries[key]
	if !authority && (known || c.Op == OpDelete) {
		m.refuse(StaleTerm)
		return
	}
	if c.Op == OpDelete {
		if known {
			m.forget(key)
			m.ops = append(m.ops, KernelOp{Kind: KernelDelete, Key: key, Flow: *f})
		}
		return
	}
	normalise(f)
	r := m.table.merge(old, known, false, f)
	r.stamp, r.until = m.clock, m.second()+f.Timeout
	r.status &^= recLocal
	kind := KernelCreate
	switch {
	case !authority:
		kind = KernelAdd
	case known && old.reply == r.reply:
		kind = KernelUpdate
	}
	m.table.put(key, r)
	op := KernelOp{Kind: kind, Key: key, Flow: *f}
	if !m.role.Holder {
		op.Flow.Timeout = min(op.Flow.Timeout+uint32(Grace/time.Second), maxTimeout)
	}
	m.ops = append(m.ops, op)
}

func (m *Machine) forget(key uint64) {
	m.table.remove(key)
	m.bury(key)
}

func (m *Machine) takeExpect(c *Change, authority bool) {
	x := c.Expect
	key := m.table.hash.Expect(x)
	_, known := m.table.entries[key]
	switch {
	case m.own.Has(&x.Master):
		m.refuse(LocalAddress)
	case !authority && (known || c.Op == OpExpectDelete):
		m.refuse(StaleTerm)
	case c.Op == OpExpectDelete:
		if known {
			m.forget(key)
			m.ops = append(m.ops, KernelOp{Kind: KernelExpectDelete, Key: key, Expect: x})
		}
	default:
		m.table.put(key, record{status: recExpect, stamp: m.clock, until: m.second() + x.Timeout})
		m.ops = append(m.ops, KernelOp{Kind: KernelExpect, Key: key, Expect: x})
	}
}

// apply brings the collected operations to the kernel, which works on them while the next frame is read.
func (m *Machine) apply() {
	m.settle()
	if len(m.ops) == 0 {
		m.landed.Store(m.clock)
		return
	}
	m.kernel.Begin(m.ops)
	m.flying, m.ops, m.flown = m.ops, m.landing[:0], m.clock
	if cap(m.scratch) > 4096 {
		m.scratch = nil // the memory of a large load is given back
	}
}

// settle waits until the kernel's table has what was begun. What it refuses is not in the model, so digests differ.
func (m *Machine) settle() {
	if m.flying == nil {
		return
	}
	ops := m.flying
	for i, err := range m.kernel.End() {
		if err != nil {
			m.refused(&ops[i], err)
		}
	}
	if m.flying, m.landing = nil, ops; cap(ops) > 4096 {
		m.landing = nil
	}
	m.landed.Store(m.flown)
}

func (m *Machine) refused(op *KernelOp, err error) {
	if r := m.table.entries[op.Key]; op.Kind != KernelDelete && op.Kind != KernelExpectDelete && int32(r.stamp-m.flown) <= 0 {
		m.forget(op.Key)
	}
	if err == TableFull {
		if !m.full {
			m.full = true
			m.out.Log(Error, "the connection table is full: entries of the holder are missing here")
		}
		m.refuse(TableFull)
		return
	}
	if m.Stats.Refused[KernelError] == 0 || m.now-m.Stats.kernelSaid > 10*time.Second {
		m.Stats.kernelSaid = m.now
		m.out.Log(Warning, "the kernel refused an entry: "+err.Error())
	}
	m.refuse(KernelError)
}
