package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/twinkeep/twinkeep/tools/bench/pair"
	"github.com/twinkeep/twinkeep/tools/bench/stream"
	"github.com/twinkeep/twinkeep/tools/bench/topology"
)

// Times of a trial.
const (
	lead   = 500 * time.Millisecond  // traffic before the event
	window = 1500 * time.Millisecond // traffic after it that is looked at
	tail   = 50 * time.Millisecond   // traffic after that, so that the window ends in traffic
)

// echoPort of the probe's server.
const echoPort = 7171

// Trial is one event and what it cost.
type Trial struct {
	Event  pair.Event
	Outage stream.Outage
	Cut    time.Duration // how long it took to cut all links, Death only
	// Flips are takeovers that nobody asked for, until the pair was whole again.
	Flips    int
	Evidence string // why the survivor took over, as it says itself
	Failed   bool   // no traffic again within the window
}

// bench is one system on one network.
type bench struct {
	sys pair.System
	lab *topology.Lab
}

// open builds a network and starts a system on it. Only one is open at a time, so that systems do not disturb
// each other.
func open(ctx context.Context, dir string, c contestant) (b *bench, err error) {
	home, err := os.MkdirTemp(dir, c.key)
	if err != nil {
		return nil, err
	}
	b = &bench{sys: c.make(home)}
	if b.lab, err = topology.Open(); err != nil {
		return nil, err
	}
	for _, g := range b.lab.Gateways {
		if err == nil {
			err = g.Boot()
		}
		if err == nil {
			err = b.sys.Boot(g)
		}
	}
	if err == nil {
		_, _, err = pair.Settle(ctx, b.sys, b.lab)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", c.key, err), b.lab.Close())
	}
	return b, nil
}

// probe starts the traffic.
func (b *bench) probe(duration time.Duration, watch bool) (*stream.Process, error) {
	return stream.Launch(string(b.lab.Client), string(b.lab.Server), netip.AddrPortFrom(topology.Server, echoPort), duration, watch)
}

// trial does one event to the active gateway, and makes the pair whole again. Roles stay as they then are: the
// next trial is about the other gateway.
func (b *bench) trial(ctx context.Context, e pair.Event) (t Trial, err error) {
	t.Event = e
	victim, survivor, err := pair.Settle(ctx, b.sys, b.lab)
	if err != nil {
		return t, err
	}
	before := b.sys.Takeovers(b.lab)
	v, err := victim.Prepare()
	if err != nil {
		return t, err
	}
	defer v.Close()
	s, err := b.probe(lead+window+tail, false)
	if err != nil {
		return t, err
	}
	pause(ctx, lead)
	from := stream.Now()
	switch e {
	case pair.Death:
		t.Cut, err = v.Die()
	case pair.Kill:
		v.Kill()
	default:
		err = b.sys.Inflict(e, victim)
	}
	if err != nil || ctx.Err() != nil {
		return t, errors.Join(err, s.Stop(), ctx.Err())
	}
	records, err := s.Wait()
	if err != nil {
		return t, err
	}
	t.Outage = stream.Measure(records, from, from+stream.Time(window))
	if t.Outage.PortBefore == 0 {
		return t, fmt.Errorf("no traffic came through %s before the event: gw-a\n%s\ngw-b\n%s", b.sys.Name(), b.sys.Log(b.lab.Gateways[0]), b.sys.Log(b.lab.Gateways[1]))
	}
	t.Failed = !t.Outage.Recovered
	t.Evidence = b.sys.Evidence(survivor)
	if err := b.restore(e, victim); err != nil {
		return t, err
	}
	if _, _, err := pair.Settle(ctx, b.sys, b.lab); err != nil {
		return t, err
	}
	// One takeover is the event's.
	t.Flips = max(0, int(b.sys.Takeovers(b.lab)-before)-1)
	return t, nil
}

// restore brings the victim back: after its end as if it booted, with empty tables.
func (b *bench) restore(e pair.Event, victim *topology.Gateway) error {
	if e != pair.Death && e != pair.Kill {
		return b.sys.Resume(e, victim)
	}
	if err := victim.Off(); err != nil {
		return err
	}
	if err := victim.Boot(); err != nil {
		return err
	}
	return b.sys.Boot(victim)
}

// pause sleeps, but not longer than ctx lives.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
