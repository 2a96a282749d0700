package statesync

import (
	"fmt"
	"time"
)

// maxDiff bounds what a diff collects of each member.
const maxDiff = 20000

// Diff is what differs between this member's table and a peer's. While traffic flows, entries that changed
// meanwhile can show up.
type Diff struct {
	Peer     uint8
	Buckets  int // that differ
	Here     []Flow
	There    []Flow
	Changed  [][2]Flow // here, there
	Trimmed  bool      // there was more than fits
	Problem  string    // why there is no result
	Expected int       // expectations that differ, not listed
}

// diffJob is a diff that this member has asked for.
type diffJob struct {
	peer          uint8
	bits          Bits
	walking, done bool
	theirs, ours  map[uint64]Flow
	expects       map[uint64]int
	trimmed       bool
	hash          Hasher
}

// AskDiff begins a comparison with a peer; Output.DiffDone has the result.
func (m *Machine) AskDiff(now time.Duration, from uint8) error {
	m.now = now
	p := m.peers[from]
	switch {
	case p == nil || !p.up:
		return fmt.Errorf("there is no connection to member %d", from)
	case m.diff != nil:
		return fmt.Errorf("a comparison with member %d is running", m.diff.peer)
	}
	m.flush()
	b := m.table.digest.append(begin(nil, TypeDiffAsk))
	if !m.out.Send(from, finish(b)) {
		return fmt.Errorf("the queue to member %d is full", from)
	}
	m.diff = &diffJob{peer: from, theirs: map[uint64]Flow{}, ours: map[uint64]Flow{}, expects: map[uint64]int{}, hash: m.table.hash}
	return nil
}

// DropDiff gives up a comparison.
func (m *Machine) DropDiff() { m.diff = nil }

func (m *Machine) takeDiff(p *peer, t Type, c *cursor) error {
	switch t {
	case TypeDiffAsk:
		var theirs Digest
		if c.digest(&theirs); c.bad {
			return nil
		}
		p.diffBits, _ = diff(&m.table.digest, &theirs)
		p.diffWant = true
		m.out.Walk()
	case TypeDiffPart:
		var changes []Change
		if err := c.changes(&changes); err != nil {
			return err
		}
		if d := m.diff; d != nil && d.peer == p.id {
			for i := range changes {
				d.add(d.theirs, &changes[i], -1)
			}
		}
	case TypeDiffEnd:
		bits := c.bits()
		if d := m.diff; !c.bad && d != nil && d.peer == p.id {
			d.bits = bits
			d.done = true
			m.out.Walk()
		}
	}
	return nil
}

// endDiff answers a peer's question at the end of a walk.
func (m *Machine) endDiff(p *peer) {
	if !p.diffAsk || !p.up {
		return
	}
	if p.diffPart.b != nil {
		m.out.Send(p.id, p.diffPart.done())
	}
	m.out.Send(p.id, bitsFrame(TypeDiffEnd, &p.diffBits))
	p.diffAsk, p.diffBits = false, Bits{}
}

func (d *diffJob) add(into map[uint64]Flow, c *Change, expect int) {
	switch {
	case c.Op == OpExpect:
		d.expects[d.hash.Expect(c.Expect)] += expect
	case c.Op == OpSet && len(into) < maxDiff:
		into[d.hash.Flow(&c.Flow)] = c.Flow
	case c.Op == OpSet:
		d.trimmed = true
	}
}

// mine collects an own entry, from the first walk that begins after the peer has answered.
func (d *diffJob) mine(bucket int, _ uint64, say func([]byte) []byte) {
	if !d.walking || !d.bits.Has(bucket) {
		return
	}
	var c Change
	if _, err := ParseChange(say(nil), &c); err == nil {
		d.add(d.ours, &c, 1)
	}
}

// ownDiff ends an own comparison at the end of a walk.
func (m *Machine) ownDiff() {
	d := m.diff
	if d == nil || !d.done {
		return
	}
	if !d.walking && !d.bits.Empty() {
		d.walking = true
		m.out.Walk()
		return
	}
	m.diff = nil
	m.out.DiffDone(d.result(m.table))
}

func (d *diffJob) result(t *table) Diff {
	out := Diff{Peer: d.peer, Trimmed: d.trimmed}
	for i := range Buckets {
		if d.bits.Has(i) {
			out.Buckets++
		}
	}
	for key, f := range d.ours {
		g, both := d.theirs[key]
		a := t.merge(record{}, false, true, &f)
		b := t.merge(record{}, false, true, &g)
		switch {
		case !both:
			out.Here = append(out.Here, f)
		case !same(&a, &b):
			out.Changed = append(out.Changed, [2]Flow{f, g})
		}
	}
	for key, g := range d.theirs {
		if _, both := d.ours[key]; !both {
			out.There = append(out.There, g)
		}
	}
	for _, n := range d.expects {
		if n != 0 {
			out.Expected++
		}
	}
	return out
}
