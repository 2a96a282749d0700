package statesyncd

import (
	"context"
	"errors"
	"time"

	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/ha/statesync/ctnl"
)

// readEvents hands the kernel's events over until ctx ends. In a stream of events it reads once a window, because
// every wake-up costs as much as several events do.
func (c *core) readEvents(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { c.kernel.Close() })
	defer stop()
	var last time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := c.kernel.Wait(); err != nil {
			return err
		}
		if wait := c.Window - time.Since(last); wait > 0 && c.barrierN.Load() == 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-c.kick:
			case <-ctx.Done():
				return nil
			}
		}
		marker := c.barrierN.Swap(0)
		for more := true; more; {
			var b eventBatch
			var err error
			b.events, more, err = c.kernel.Read(c.buffer())
			if b.lost = errors.Is(err, ctnl.ErrLost); err != nil && !b.lost {
				return err
			}
			if !more {
				b.marker = marker
			}
			if len(b.events) == 0 && !b.lost && b.marker == 0 {
				break
			}
			select {
			case c.events <- b:
			case <-ctx.Done():
				return nil
			}
		}
		last = time.Now()
	}
}

func (c *core) buffer() []statesync.Event {
	select {
	case b := <-c.spare:
		return b
	default:
		return make([]statesync.Event, 0, 512)
	}
}

// barrier is a question whether peers have everything.
type barrier struct {
	until   time.Duration
	waiting map[uint8]bool
	others  []uint8
	result  chan barrierResult
	began   time.Time
}

type barrierResult struct {
	missing, others []uint8
	took            time.Duration
}

// askBarrier waits until every peer that is in sync has what the kernel has reported so far, or the timeout.
func (c *core) askBarrier(ctx context.Context, number uint64, timeout time.Duration) (barrierResult, bool) {
	b := &barrier{result: make(chan barrierResult, 1), began: time.Now(), waiting: map[uint8]bool{}}
	if !c.do(ctx, func() {
		b.until = c.now() + timeout
		c.barriers[number] = b
	}) {
		return barrierResult{}, false
	}
	// The reader empties the kernel's queue before it hands the number over.
	for {
		old := c.barrierN.Load()
		if old >= number || c.barrierN.CompareAndSwap(old, number) {
			break // the higher number stands for all before it
		}
	}
	poke(c.kick)
	c.kernel.Kick()
	select {
	case r := <-b.result:
		return r, true
	case <-c.ended:
		return barrierResult{}, false
	}
}

// beginBarrier sends it, now that all events before it are told. A number that came while another was on its way to
// the reader has replaced that one, so everybody who waits takes part.
func (c *core) beginBarrier(upTo uint64) {
	for n, b := range c.barriers {
		if n > upTo || len(b.waiting) > 0 {
			continue
		}
		asked, others := c.machine.Barrier(c.now(), n)
		b.others = others
		for _, p := range asked {
			b.waiting[p] = true
		}
		if len(asked) == 0 {
			b.end(n, c)
		}
	}
}

// BarrierAcked implements statesync.Output.
func (c *core) BarrierAcked(peer uint8, number uint64) {
	if b := c.barriers[number]; b != nil {
		delete(b.waiting, peer)
		if len(b.waiting) == 0 {
			b.end(number, c)
		}
	}
}

func (b *barrier) end(number uint64, c *core) {
	delete(c.barriers, number)
	r := barrierResult{others: b.others, took: time.Since(b.began)}
	for p := range b.waiting {
		r.missing = append(r.missing, p)
	}
	b.result <- r
}
