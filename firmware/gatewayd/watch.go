package gatewayd

import (
	"context"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/port"
)

// A link that changes says so several times. Waiting settle after the last word turns them into one application.
const settle = 50 * time.Millisecond

// watch applies the network again when a NIC of the node file appears, or changes in a way that may have cost it
// addresses or routes. Applying changes nothing when nothing is missing, so a word too many does no harm.
func (d *daemon) watch(ctx context.Context) {
	for ctx.Err() == nil {
		err := port.Links(ctx.Done(), func(l port.LinkState) {
			if d.wants(l.Device) {
				d.again.Reset(settle)
			}
		})
		if err != nil {
			d.Log.Printf("%v; again in a second", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (d *daemon) applyAgain() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.node != nil {
		d.apply()
	}
}

// How long after an application that failed the next one comes: what the kernel refused once, because something else was being set up, it may take now.
const firstDelay, lastDelay = time.Second, 10 * time.Second

// applyLater sees that an application that failed is tried again, each time after twice as long. d.mu is held.
func (d *daemon) applyLater(failed bool) {
	if !failed {
		d.delay = 0
		return
	}
	d.delay = min(max(2*d.delay, firstDelay), lastDelay)
	d.again.Reset(d.delay)
}

func (d *daemon) wants(device string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.node != nil && slices.ContainsFunc(d.node.Interfaces, func(f node.Interface) bool { return f.Device == device })
}
