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
	again := time.AfterFunc(time.Hour, d.applyAgain)
	defer again.Stop()
	for ctx.Err() == nil {
		err := port.Links(ctx.Done(), func(l port.LinkState) {
			if d.wants(l.Device) {
				again.Reset(settle)
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
	if d.node != nil && len(d.status.Errors) == 0 {
		d.apply()
	}
}

func (d *daemon) wants(device string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.node != nil && slices.ContainsFunc(d.node.Interfaces, func(f node.Interface) bool { return f.Device == device })
}
