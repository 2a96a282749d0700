package vswitch

import (
	"container/heap"
	"sync"
	"time"
)

// queue holds frames until they are due. It is bounded: a port that does not take its frames loses them here
// and holds nobody up.
type queue struct {
	mu    sync.Mutex
	items dueHeap
	limit int
	seq   uint64
	last  time.Time // due time of the newest ordered frame: nothing ordered may overtake it
	wake  chan struct{}
}

type item struct {
	due      time.Time
	seq      uint64
	frame    []byte
	mirrored bool // a copy from another port
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, wake: make(chan struct{}, 1)}
}

// put queues one copy of a frame and reports whether there was room.
func (q *queue) put(it item, p pass, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) >= q.limit {
		return false
	}
	due := now.Add(p.delay)
	if p.ordered {
		if due.Before(q.last) {
			due = q.last
		}
		q.last = due
	}
	q.seq++
	it.due, it.seq = due, q.seq
	heap.Push(&q.items, it)
	select {
	case q.wake <- struct{}{}:
	default: // a wake-up is pending already
	}
	return true
}

// take waits for the next frame that is due; false when done was closed.
func (q *queue) take(done <-chan struct{}) (item, bool) {
	for {
		wait := time.Duration(-1)
		q.mu.Lock()
		if len(q.items) > 0 {
			if wait = time.Until(q.items[0].due); wait <= 0 {
				it := heap.Pop(&q.items).(item)
				q.mu.Unlock()
				return it, true
			}
		}
		q.mu.Unlock()
		if !q.sleep(wait, done) {
			return item{}, false
		}
	}
}

// sleep waits for wait (for ever if negative) or a new frame; false when done was closed.
func (q *queue) sleep(wait time.Duration, done <-chan struct{}) bool {
	var due <-chan time.Time
	if wait >= 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-done:
		return false
	case <-q.wake:
	case <-due:
	}
	return true
}

// dueHeap orders by due time, then by arrival.
type dueHeap []item

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	if !h[i].due.Equal(h[j].due) {
		return h[i].due.Before(h[j].due)
	}
	return h[i].seq < h[j].seq
}
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)   { *h = append(*h, x.(item)) }
func (h *dueHeap) Pop() any {
	old := *h
	it := old[len(old)-1]
	old[len(old)-1] = item{}
	*h = old[:len(old)-1]
	return it
}
