package statesyncd

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/ha/statesync/hold"
)

const (
	// holdPatience is how long a first packet waits at most.
	holdPatience = 20 * time.Millisecond
	// holdEvery is how often the hold is renewed.
	holdEvery = hold.Lease / 4
)

// hold keeps the first packet of every connection back until the peers that are in sync have the connection, until ctx
// ends. Without a peer in sync nothing waits.
func (c *core) hold(ctx context.Context, wg *sync.WaitGroup) error {
	var nics []string
	for _, f := range c.node.Interfaces {
		if !f.Sync {
			nics = append(nics, f.Device)
		}
	}
	h, err := hold.Open(nics)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var ports sync.WaitGroup
	for i := range h.Ports() {
		ports.Go(func() {
			for {
				n, err := h.Wait(i)
				if err != nil || ctx.Err() != nil {
					return
				}
				if r, ok := c.askBarrier(ctx, barrierNumber.Add(1), holdPatience); ok {
					c.held.Add(uint64(n))
					if len(r.missing) > 0 {
						c.late.Add(uint64(n))
					}
				}
				h.Release(i)
				c.dropped.Add(h.Dropped(i))
			}
		})
	}
	wg.Go(func() {
		t := time.NewTicker(holdEvery)
		defer t.Stop()
		for err := h.Renew(); ctx.Err() == nil; err = h.Renew() {
			if err != nil {
				c.Options.Log.Error("first packets are not held", "err", err)
			}
			select {
			case <-ctx.Done():
			case <-t.C:
			}
		}
		cancel()
		err := h.Stop()
		ports.Wait()
		if err = errors.Join(err, h.Close()); err != nil {
			c.Options.Log.Warn("the hold of first packets was not removed", "err", err)
		}
	})
	return nil
}
