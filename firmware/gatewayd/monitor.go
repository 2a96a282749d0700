package gatewayd

import (
	"context"
	"sync"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/monitor"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/member"
)

// monitors runs the monitors of the node file in force and makes critical devices of them.
type monitors struct {
	client *api.Client
	stop   context.CancelFunc
	done   sync.WaitGroup
	names  map[string]bool // devices that had has from us
}

// restart ends the monitors that run and starts those of n.
func (m *monitors) restart(ctx context.Context, n *node.Node) {
	m.end()
	wanted := map[string]bool{}
	for _, w := range n.Monitors {
		wanted[monitor.Device(w)] = true
	}
	for name := range m.names {
		if !wanted[name] {
			m.client.UnregisterDevice(ctx, name) // had may have restarted and forgotten it
		}
	}
	m.names = wanted
	if len(wanted) == 0 || n.Cluster == nil {
		return
	}
	ctx, m.stop = context.WithCancel(ctx)
	m.done.Go(func() {
		monitor.Run(ctx, n, func(r monitor.Report) {
			report := api.DeviceReport{State: "ok", Text: short(r.Text), Timeout: member.Duration(r.Timeout)}
			if r.Problem {
				report.State = "problem"
			}
			m.client.ReportDevice(ctx, r.Name, report) // a had that does not answer has its own troubles
		})
	})
}

// end stops the monitors that run and waits for them.
func (m *monitors) end() {
	if m.stop != nil {
		m.stop()
		m.done.Wait()
		m.stop = nil
	}
}

// short cuts a text to what had takes.
func short(s string) string { return s[:min(len(s), 200)] }
