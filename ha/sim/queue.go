package sim

import (
	"math/bits"

	"github.com/twinkeep/twinkeep/ha/cluster"
)

// event is one thing that will happen: a frame that arrives, a timer, or a call of the story.
type event struct {
	at    cluster.Instant
	kind  eventKind
	iface uint8
	from  uint8 // ID of the sender of a frame
	to    *Node
	sent  cluster.Instant
	frame *frame
	f     func()
}

type eventKind uint8

const (
	evCall  eventKind = iota
	evFrame           // a frame arrives at to
	evTimer           // to's timer fires
	evWake            // to's process gets the CPU back
)

// ary is how many children a place in the heap has.
const ary = 4

// queue is a heap of events, ordered by time, then by when they were put in. The heap itself has no
// pointers and the events stay in their slots, so that moving in it is cheap.
type queue struct {
	heap   []ticket
	slots  []event
	free   []uint32 // slots
	serial uint64
}

type ticket struct {
	at    cluster.Instant
	order uint64 // serial and slot
}

// slotBits is how many bits of a ticket's order are its slot: as many events can wait, and 2^40 in a world.
const slotBits = 24

// before compares without a branch, whose outcome the CPU could only guess.
func (t *ticket) before(u *ticket) bool {
	_, borrow := bits.Sub64(t.order, u.order, 0)
	_, borrow = bits.Sub64(uint64(t.at), uint64(u.at), borrow)
	return borrow != 0
}

// due reports whether there is an event until end.
func (q *queue) due(end cluster.Instant) bool { return len(q.heap) > 0 && q.heap[0].at <= end }

func (q *queue) push(e *event) {
	q.serial++
	slot := uint32(len(q.slots))
	if n := len(q.free); n > 0 {
		slot, q.free = q.free[n-1], q.free[:n-1]
		q.slots[slot] = *e
	} else {
		q.slots = append(q.slots, *e)
	}
	t := ticket{at: e.at, order: q.serial<<slotBits | uint64(slot)}
	q.heap = append(q.heap, t)
	i := len(q.heap) - 1
	for i > 0 {
		up := (i - 1) / ary
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
	heap := q.heap[:last]
	q.heap = heap
	i := 0
	for {
		down := ary*i + 1
		if down >= last {
			break
		}
		least := down
		for j, end := down+1, min(down+ary, last); j < end; j++ {
			if heap[j].before(&heap[least]) {
				least = j
			}
		}
		if !heap[least].before(&t) {
			break
		}
		heap[i] = heap[least]
		i = least
	}
	if last > 0 {
		heap[i] = t
	}
	slot := uint32(first.order & (1<<slotBits - 1))
	e := q.slots[slot]
	q.slots[slot].f = nil // let go of what it refers to
	q.free = append(q.free, slot)
	return e
}
