package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/tools/bench/machine"
	"github.com/twinkeep/twinkeep/tools/bench/stream"
)

// Siege is what a pair did while the machine was too busy, and nothing else happened.
type Siege struct {
	Hogs      int
	For       time.Duration
	Takeovers int
	// Unexplained are those of Takeovers before which no core stood still for stallOf.
	Unexplained int
	Outage      stream.Outage
	Busy        float64 // percent of all cores
	Stalls      []stream.Stall
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
	changes := b.changes(ctx, before, duration)
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
	s.Takeovers, s.Unexplained = len(changes), unexplained(changes, p.Stalls)
	// The first datagrams find no neighbours, the last are still on their way.
	edge := stream.Time(100 * time.Millisecond)
	s.Outage = stream.Measure(records, p.Begun()+edge, p.Begun()+stream.Time(duration)-edge)
	return s, nil
}

// changes are the times at which role changes were noticed, for so long.
func (b *bench) changes(ctx context.Context, known uint64, duration time.Duration) (at []stream.Time) {
	for end := time.Now().Add(duration); time.Now().Before(end) && ctx.Err() == nil; {
		pause(ctx, min(watchEvery, time.Until(end)))
		for n := b.sys.Takeovers(b.lab); known < n; known++ {
			at = append(at, stream.Now())
		}
	}
	return at
}

// watchEvery is how often roles are asked for.
const watchEvery = 200 * time.Millisecond

// aftermath is how long after its cause a role change is noticed at most: the loops keep this program waiting, too.
const aftermath = stream.Time(time.Second)

// stallOf is how long a core stands still that may be the reason: with two heartbeats on their way it is more than half of the fast lease.
const stallOf = 8 * time.Millisecond

// unexplained counts the role changes before which no core stood still.
func unexplained(changes []stream.Time, stalls []stream.Stall) (n int) {
	for _, at := range changes {
		if !slices.ContainsFunc(stalls, func(s stream.Stall) bool {
			return s.For >= stallOf && s.At <= at && at-s.At-stream.Time(s.For) <= aftermath
		}) {
			n++
		}
	}
	return n
}
