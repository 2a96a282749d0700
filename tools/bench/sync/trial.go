package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/ti-mo/conntrack"

	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/tools/bench/machine"
)

// own is how many entries of a side may be its own: the daemons' connection, and of pings beforehand.
const own = 5

// ceiling is what the kernel takes by raw netlink alone, from one process.
func (p *part) ceiling(o *options) error {
	for range o.n {
		l, err := newLab(o)
		if err == nil {
			const n = 200000
			ops := make([]statesync.KernelOp, 0, n)
			for i := range n {
				ops = append(ops, flow(i))
			}
			began := time.Now()
			for at := 0; at < n; at += 256 {
				for _, e := range l.a.table.Apply(ops[at:min(at+256, n)]) {
					if e != nil {
						err = e
					}
				}
			}
			p.Ceiling = append(p.Ceiling, n/time.Since(began).Seconds())
		}
		l.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// sustained offers new connections at a rate.
func (p *part) sustained(ctx context.Context, o *options, how, name string, rate int) error {
	l, err := newLab(o)
	defer l.close()
	if err == nil && how == "packets" {
		err = l.addTraffic()
	}
	if err == nil {
		err = l.start(name, l.a, l.b)
	}
	if err == nil {
		err = l.settle(name)
	}
	if err != nil {
		return err
	}
	res := rateResult{Name: name, Offered: rate}
	base := l.a.count()
	cpu0, _ := machine.ReadCPUTime()
	a0, b0 := l.a.cpu(), l.b.cpu()
	probing, stopProbes := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var lagErr error
	wg.Go(func() { res.Lag, lagErr = l.probeLag(probing) })
	total := rate * o.seconds
	began := time.Now()
	generate := l.generate
	switch how {
	case "packets":
		generate = l.sendPackets
	case "churn":
		generate = l.churn
	}
	if err := generate(ctx, total, rate); err != nil {
		stopProbes()
		return err
	}
	took := time.Since(began)
	made := l.a.count() - base
	if how == "churn" {
		made = total // most are gone again
	}
	res.Made = float64(made) / took.Seconds()
	res.Behind = l.a.count() - l.b.count()
	stopProbes()
	wg.Wait()
	if lagErr != nil {
		return lagErr
	}
	want := l.a.count()
	stopped := time.Now()
	// It has 15 s to catch up; the CPU for it counts.
	for end := stopped.Add(15 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		if l.b.count() >= want-own {
			res.Caught = time.Since(stopped)
			break
		}
	}
	cpu1, _ := machine.ReadCPUTime()
	res.Busy = cpu1.Busy(cpu0)
	res.Missing = max(0, want-l.b.count()-own)
	res.CPUA = float64((l.a.cpu() - a0).Microseconds()) / float64(made)
	res.CPUB = float64((l.b.cpu() - b0).Microseconds()) / float64(made)
	res.RSSA, res.RSSB = l.a.rss(), l.b.rss()
	if name == "twinkeep" {
		s := l.a.sync()
		res.Lost = s.Stats.Lost
		res.Repairs = s.Stats.RepairsGiven
	}
	p.Rates = append(p.Rates, res)
	fmt.Fprintf(os.Stderr, "%s, %s %d/s: made %.0f/s, missing %d, CPU %.1f + %.1f µs, caught up in %v, lost %d, repairs %d, busy %.0f %%\n", how, name, rate, res.Made, res.Missing, res.CPUA, res.CPUB, res.Caught.Round(time.Millisecond), res.Lost, res.Repairs, res.Busy)
	return nil
}

// generate makes connections in A's kernel, in bursts of a millisecond.
func (l *lab) generate(ctx context.Context, total, rate int) error {
	return l.make(ctx, total, rate, total)
}

// living is how many connections live at a time while others begin and end.
const living = 20000

// churn makes connections and ends as many older ones.
func (l *lab) churn(ctx context.Context, total, rate int) error {
	return l.make(ctx, total, rate, living)
}

func (l *lab) make(ctx context.Context, total, rate, keep int) error {
	began := time.Now()
	ops := make([]statesync.KernelOp, 0, 2048)
	for made := 0; made < total && ctx.Err() == nil; {
		due := min(total, made+cap(ops)/2, int(time.Since(began).Seconds()*float64(rate))+1)
		ops = ops[:0]
		first := made
		for ; made < due; made++ {
			if made >= keep {
				op := flow(made - keep)
				op.Kind = statesync.KernelDelete
				ops = append(ops, op)
			}
			ops = append(ops, flow(made))
		}
		for _, err := range l.a.table.Apply(ops) {
			if err != nil {
				return fmt.Errorf("make connections from %d on: %w", first, err)
			}
		}
		if len(ops) < cap(ops)/2 {
			time.Sleep(time.Millisecond)
		}
	}
	return ctx.Err()
}

// probeLag makes a connection now and then and looks when the standby's kernel has it. In ms, ±1.
func (l *lab) probeLag(ctx context.Context) (lags []float64, err error) {
	var a, b *conntrack.Conn
	if err := l.a.ns.Do(func() (err error) { a, err = conntrack.Dial(nil); return err }); err != nil {
		return nil, err
	}
	defer a.Close()
	if err := l.b.ns.Do(func() (err error) { b, err = conntrack.Dial(nil); return err }); err != nil {
		return nil, err
	}
	defer b.Close()
	for i := 0; ctx.Err() == nil; i++ {
		f := flow(2_000_000 + i).Flow
		c := conntrack.NewFlow(f.Orig.Proto, 0, f.Orig.Src.Netip(2), f.Orig.Dst.Netip(2), f.Orig.SrcPort, f.Orig.DstPort, 300, 0)
		if a.Create(c) != nil {
			continue
		}
		began := time.Now()
		for {
			if _, err := b.Get(c); err == nil {
				lags = append(lags, float64(time.Since(began).Microseconds())/1000)
				break
			}
			if time.Since(began) > 3*time.Second {
				lags = append(lags, 3000) // or never
				break
			}
			time.Sleep(500 * time.Microsecond)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return lags, nil
}

// join lets a standby with an empty table load one.
func (p *part) join(ctx context.Context, o *options, name string, entries int) error {
	l, err := newLab(o)
	defer l.close()
	if err != nil {
		return err
	}
	ops := make([]statesync.KernelOp, 0, 1024)
	var raw time.Duration
	for at := 0; at < entries; at += len(ops) {
		ops = ops[:0]
		for i := at; i < min(at+1024, entries); i++ {
			ops = append(ops, tcp(flow(i)))
		}
		began := time.Now()
		failed := l.a.table.Apply(ops)
		raw += time.Since(began)
		for _, err := range failed {
			if err != nil {
				return fmt.Errorf("fill the table: %w", err)
			}
		}
	}
	// The active's daemon finds the table and has read all of it before anybody joins.
	if err = l.start(name, l.a); err != nil {
		return err
	}
	if name == "twinkeep" {
		for range 400 {
			if l.a.sync().Entries >= entries {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(5 * time.Second) // a new holder walks once more
	} else {
		time.Sleep(5*time.Second + time.Duration(entries/50)*time.Millisecond)
	}
	res := joinResult{Name: name, Entries: entries, Raw: raw}
	began := time.Now()
	if err := l.start(name, l.b); err != nil {
		return err
	}
	if name == "conntrackd" {
		// Its start is not counted: the request for a resync is the beginning.
		time.Sleep(time.Second)
		if err := l.b.ns.Run("", "conntrack", "-F"); err != nil {
			return err
		}
		began = time.Now()
		if err := l.b.ctl("-n"); err != nil {
			return err
		}
	}
	quiet := time.Now()
	for last := 0; time.Since(began) < time.Minute && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		n := l.b.count()
		if n != last {
			last, quiet = n, time.Now()
		}
		if n >= entries {
			res.Took, res.Complete = time.Since(began), true
			break
		}
		if time.Since(quiet) > 10*time.Second {
			break
		}
	}
	res.Loaded = l.b.count()
	for name == "twinkeep" && time.Since(began) < time.Minute {
		if l.b.sync().InSync {
			res.InSync = time.Since(began)
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	res.CPU, res.RSSB, res.RSSA = l.b.cpu(), l.b.rss(), l.a.rss()
	p.Joins = append(p.Joins, res)
	fmt.Fprintf(os.Stderr, "%s: %d of %d entries in %v, in sync after %v, CPU %v, memory %d + %d MiB\n", name, res.Loaded, entries, res.Took.Round(time.Millisecond), res.InSync.Round(time.Millisecond), res.CPU, res.RSSA>>20, res.RSSB>>20)
	return nil
}
