package sim

import "github.com/twinkeep/twinkeep/ha/cluster"

// event is one thing that will happen: a frame that arrives, a timer, or a call of the story.
type event struct {
	at    cluster.Instant
	kind  eventKind
	iface uint8
	from  uint8 // ID of the sender of a frame
	to    *Node
	sent  cluster.Instant
	in    cluster.Input // what a frame says, when it was decoded already
	data  []byte        // or its bytes
	f     func()
}

type eventKind uint8

const (
	evCall  eventKind = iota
	evFrame           // a frame arrives at to
	evTimer           // to's timer fires
	evWake            // to's process gets the CPU back
)

// queue is a binary heap of events, ordered by time, then by when they were put in. The heap itself has no
// pointers and the events stay in their slots, so that moving in it is cheap.
type queue struct {
	heap   []ticket
	slots  []event
	free   []uint32 // slots
	serial uint64
}

type ticket struct {
	at     cluster.Instant
	serial uint64
	slot   uint32
}

func (t *ticket) before(u *ticket) bool { return t.at < u.at || t.at == u.at && t.serial < u.serial }

// due reports whether there is an event until end.
func (q *queue) due(end cluster.Instant) bool { return len(q.heap) > 0 && q.heap[0].at <= end }

func (q *queue) push(e event) {
	q.serial++
	t := ticket{at: e.at, serial: q.serial, slot: uint32(len(q.slots))}
	if n := len(q.free); n > 0 {
		t.slot, q.free = q.free[n-1], q.free[:n-1]
		q.slots[t.slot] = e
	} else {
		q.slots = append(q.slots, e)
	}
	q.heap = append(q.heap, t)
	i := len(q.heap) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !t.before(&q.heap[up]) {
			break
		}
		q.heap[i] = q.heap[up]
		i = up
	}
	q.heap[i] = t
}

// pop takes the next event out. It must not be called on an empty queue.
func (q *queue) pop() event {
	first, last := q.heap[0], len(q.heap)-1
	t := q.heap[last]
	q.heap = q.heap[:last]
	i := 0
	for {
		down := 2*i + 1
		if down >= last {
			break
		}
		if down+1 < last && q.heap[down+1].before(&q.heap[down]) {
			down++
		}
		if !q.heap[down].before(&t) {
			break
		}
		q.heap[i] = q.heap[down]
		i = down
	}
	if last > 0 {
		q.heap[i] = t
	}
	e := q.slots[first.slot]
	q.slots[first.slot] = event{} // let go of what it points to
	q.free = append(q.free, first.slot)
	return e
}
