package gatewayd

import (
	"context"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/twinkeep/twinkeep/firmware/node"
)

// A link that changes says so several times. Waiting settle after the last word turns them into one application.
const settle = 50 * time.Millisecond

// watch applies the network again when a NIC of the node file appears, or changes in a way that may have cost it
// addresses or routes. Applying changes nothing when nothing is missing, so a word too many does no harm.
func (d *daemon) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if err := d.watchOnce(ctx); err != nil {
			d.Log.Printf("watch links: %v; again in a second", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (d *daemon) watchOnce(ctx context.Context) error {
	updates, stop := make(chan netlink.LinkUpdate, 64), make(chan struct{})
	failed := make(chan error, 1)
	err := netlink.LinkSubscribeWithOptions(updates, stop, netlink.LinkSubscribeOptions{
		ErrorCallback: func(err error) {
			select {
			case failed <- err:
			default:
			}
		},
	})
	if err != nil {
		return err
	}
	defer func() {
		close(stop)
		for range updates { // let the library's goroutine go
		}
	}()
	// A NIC that appeared before the subscription is not announced.
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case u, ok := <-updates:
			if !ok {
				return <-failed
			}
			if d.wants(u.Attrs().Name) {
				timer.Reset(settle)
			}
		case <-timer.C:
			d.mu.Lock()
			if d.node != nil && len(d.status.Errors) == 0 {
				d.apply()
			}
			d.mu.Unlock()
		}
	}
}

func (d *daemon) wants(device string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.node != nil && slices.ContainsFunc(d.node.Interfaces, func(f node.Interface) bool { return f.Device == device })
}
