package gatewayd

import (
	"context"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
)

// gatewayd is a critical device of its member: without it nobody keeps addresses and rules as they should be.
const (
	deviceName    = "gatewayd"
	reportEvery   = time.Second
	deviceTimeout = 5 * time.Second // a restart takes less
)

// report tells had how gatewayd is, until ctx ends. A had that does not answer has its own troubles, and on a
// standalone host there is nobody to tell.
func (d *daemon) report(ctx context.Context) {
	client := api.NewClient(d.RunDir)
	t := time.NewTicker(reportEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-d.licence.changed:
		}
		client.ReportDevice(ctx, licenceDevice, d.licence.report())
		client.ReportDevice(ctx, deviceName, d.health())
	}
}

// health is a problem when the node file in force could not be applied. A bad file that is not in force is not: what ran
// before goes on.
func (d *daemon) health() api.DeviceReport {
	r := api.DeviceReport{State: "ok", Timeout: member.Duration(deviceTimeout)}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.status.Problems) > 0 {
		r.State, r.Text = "problem", short(d.status.Problems[0])
	}
	return r
}
