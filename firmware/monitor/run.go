package monitor

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/firmware/node"
)

// Report is what a monitor says of its group, once an interval.
type Report struct {
	Name    string
	Problem bool
	Text    string
	Timeout time.Duration // a monitor that is silent for longer is a problem itself
}

// Device is the name of a monitor's critical device.
func Device(m node.Monitor) string { return "monitor " + m.Name }

// Run watches all monitors of a node file until ctx ends. report is called from several goroutines.
func Run(ctx context.Context, n *node.Node, report func(Report)) {
	var wg sync.WaitGroup
	for _, m := range n.Monitors {
		wg.Go(func() { watch(ctx, n, m, report) })
	}
	wg.Wait()
}

// watch probes the hosts of one monitor side by side, an interval apart.
func watch(ctx context.Context, n *node.Node, m node.Monitor, report func(Report)) {
	start := time.Now()
	group := NewGroup(m.Hosts, Rule{Loss: m.Loss, Grace: m.Grace}, 0)
	probers := make([]prober, len(m.Hosts))
	for i, h := range m.Hosts {
		probers[i] = proberFor(n, m, h)
	}
	tick := time.NewTicker(m.Interval)
	defer tick.Stop()
	for {
		answered := make([]bool, len(m.Hosts))
		once, cancel := context.WithTimeout(ctx, m.Interval)
		var wg sync.WaitGroup
		for i, h := range m.Hosts {
			wg.Go(func() { answered[i] = probers[i].probe(once, h) == nil })
		}
		wg.Wait()
		cancel()
		if ctx.Err() != nil {
			return
		}
		for i, ok := range answered {
			group.Observe(i, ok)
		}
		problem, text := group.Verdict(time.Since(start))
		report(Report{Name: Device(m), Problem: problem, Text: text, Timeout: max(10*m.Interval, 5*time.Second)})
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func proberFor(n *node.Node, m node.Monitor, h netip.Addr) prober {
	switch m.Probe {
	case node.ProbeTCP:
		return tcpProbe{m.Port}
	case node.ProbeARP:
		for _, f := range n.Interfaces {
			if f.Reaches(h) {
				return arpProbe{f.Device}
			}
		}
	}
	return icmpProbe{}
}
