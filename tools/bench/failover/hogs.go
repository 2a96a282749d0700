package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twinkeep/twinkeep/tools/bench/machine"
	"github.com/twinkeep/twinkeep/tools/bench/stream"
)

// Siege is what a pair did while the machine was too busy, and nothing else happened.
type Siege struct {
	Hogs      int
	For       time.Duration
	Takeovers int
	Outage    stream.Outage
	Busy      float64 // percent of all cores
	Stalls    []stream.Stall
}

// siege runs busy loops at normal priority beside a pair that works. They end with the network.
func (b *bench) siege(ctx context.Context, hogs int, duration time.Duration) (s Siege, err error) {
	s.Hogs, s.For = hogs, duration
	for range hogs {
		c := b.lab.Client.Command(ctx, "sh", "-c", "while :; do :; done")
		if err := c.Start(); err != nil {
			return s, fmt.Errorf("start a busy loop: %w", err)
		}
		go func() { _ = c.Wait() }() // reaps it
	}
	pause(ctx, time.Second)
	before := b.sys.Takeovers(b.lab)
	cpu, err := machine.ReadCPUTime()
	if err != nil {
		return s, err
	}
	p, err := b.probe(duration, true)
	if err != nil {
		return s, err
	}
	pause(ctx, duration)
	if ctx.Err() != nil {
		return s, errors.Join(ctx.Err(), p.Stop())
	}
	records, err := p.Wait()
	if err != nil {
		return s, err
	}
	after, err := machine.ReadCPUTime()
	if err != nil {
		return s, err
	}
	s.Busy, s.Stalls = after.Busy(cpu), p.Stalls
	s.Takeovers = int(b.sys.Takeovers(b.lab) - before)
	// The first datagrams find no neighbours, the last are still on their way.
	edge := stream.Time(100 * time.Millisecond)
	s.Outage = stream.Measure(records, p.Begun()+edge, p.Begun()+stream.Time(duration)-edge)
	return s, nil
}
