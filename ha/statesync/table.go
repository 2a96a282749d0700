package statesync

// Buckets of the digest. A bucket that differs is repaired as a whole.
const Buckets = 1024

// Digest is one number a bucket; it does not depend on the order in which entries came.
type Digest [Buckets]uint64

// Bits is a set of buckets.
type Bits [Buckets / 64]uint64

// Set adds a bucket.
func (b *Bits) Set(i int) { b[i/64] |= 1 << (i % 64) }

// Has reports whether a bucket is in the set.
func (b *Bits) Has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

// Empty reports whether no bucket is in the set.
func (b *Bits) Empty() bool { return *b == Bits{} }

// Or adds the buckets of another set.
func (b *Bits) Or(o *Bits) {
	for i := range b {
		b[i] |= o[i]
	}
}

// All sets every bucket.
func (b *Bits) All() {
	for i := range b {
		b[i] = ^uint64(0)
	}
}

// diff is the set of buckets in which two digests differ, and their number.
func diff(a, b *Digest) (out Bits, n int) {
	for i := range a {
		if a[i] != b[i] {
			out.Set(i)
			n++
		}
	}
	return out, n
}

func bucket(key uint64) int { return int(key % Buckets) }

// Status and kind of a record, in one byte.
const (
	recReply   = 1 << iota // StatusSeenReply
	recAssured             // StatusAssured
	recExpect              // an expectation
	recDoomed              // the holder does not have it: remove it from the kernel
	recLocal               // own packets made it while this member had no role; not shared
	recDigest  = recReply | recAssured | recExpect
)

// record is what the model keeps of an entry. It has no pointers: a map of a million records costs the garbage
// collector nothing.
type record struct {
	reply  uint32 // hash of the reply tuple
	mark   uint32
	labels uint32 // hash
	adjust uint32 // hash of the sequence adjustments, 0 without any
	stamp  uint32 // machine's clock when it was last heard of, by event or by a peer
	until  uint32 // second at which peers' copies run out, without their grace
	seen   uint32 // the pass that last saw it in the kernel
	status uint8
	state  uint8 // TCP, SCTP
}

// table is the model of the own kernel's table.
type table struct {
	hash    Hasher
	entries map[uint64]record
	digest  Digest // of the shared entries
	expects int
	doomed  int
}

func newTable(h Hasher) *table { return &table{hash: h, entries: make(map[uint64]record)} }

// toggle adds a record to its bucket's digest, or takes it out. Entries that are not shared, or about to go, do not
// count.
func (t *table) toggle(key uint64, r *record) {
	if r.status&(recLocal|recDoomed) == 0 {
		d := *r
		d.status &= recDigest
		t.digest[bucket(key)] ^= t.hash.mix(key, &d)
	}
}

func (t *table) put(key uint64, r record) {
	if old, ok := t.entries[key]; ok {
		t.toggle(key, &old)
		t.count(&old, -1)
	}
	t.toggle(key, &r)
	t.count(&r, 1)
	t.entries[key] = r
}

func (t *table) remove(key uint64) bool {
	old, ok := t.entries[key]
	if !ok {
		return false
	}
	t.toggle(key, &old)
	t.count(&old, -1)
	delete(t.entries, key)
	return true
}

func (t *table) count(r *record, n int) {
	if r.status&recExpect != 0 {
		t.expects += n
	}
	if r.status&recDoomed != 0 {
		t.doomed += n
	}
}

// touch changes what does not count for the digest.
func (t *table) touch(key uint64, r record) { t.entries[key] = r }

// merge makes the record of a flow. What an event leaves out is taken from the record before it; a complete flow, from
// a dump, leaves out labels only when there are none.
func (t *table) merge(old record, known, complete bool, f *Flow) record {
	r := record{reply: t.hash.reply(f), mark: f.Mark, until: old.until, seen: old.seen, stamp: old.stamp}
	if f.Status&StatusSeenReply != 0 {
		r.status |= recReply
	}
	if f.Status&StatusAssured != 0 {
		r.status |= recAssured
	}
	switch {
	case f.Has&HasTCP != 0:
		r.state = f.TCP.State
	case f.Has&HasSCTP != 0:
		r.state = f.SCTP.State
	case known:
		r.state = old.state
	}
	if f.Has&HasLabels != 0 {
		r.labels = t.hash.labels(&f.Labels)
	} else if known && !complete {
		r.labels = old.labels
	}
	switch {
	case f.Has&HasSeqAdj != 0:
		r.adjust = t.hash.adjust(&f.SeqAdj)
	case known && !complete:
		r.adjust = old.adjust
	}
	if known {
		r.status |= old.status & recLocal
	}
	return r
}

// same reports whether two records count for the digest alike.
func same(a, b *record) bool {
	return a.reply == b.reply && a.mark == b.mark && a.labels == b.labels && a.adjust == b.adjust && a.status&recDigest == b.status&recDigest && a.state == b.state
}
