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

// sustainedResult is one trial of a rate.
type sustainedResult struct {
	how, name        string
	offered          int
	made             float64 // a second
	missing          int     // on the standby at last
	behind           int     // when the generator stopped
	caught           time.Duration
	cpuA, cpuB       float64 // µs of the daemon for a flow
	lag              []float64
	busy             float64
	rssA, rssB       int
	lost, repairs    uint64
	inSyncThroughout bool
}

// joinResult is one trial of a load.
type joinResult struct {
	name     string
	entries  int
	loaded   int
	took     time.Duration // until the kernel's table has all
	inSync   time.Duration // until the daemon says so; 0 for conntrackd, which does not know
	cpu      time.Duration // of the standby's daemon
	rss      int
	rssA     int
	complete bool
}

type results struct {
	o       *options
	began   time.Time
	before  string
	raw     []float64 // entries a second
	rate    []sustainedResult
	loading []joinResult
}

// own is how many entries of a side may be its own: the daemons' connection, and of pings beforehand.
const own = 5

// ceiling is what the kernel takes by raw netlink alone, from one process.
func (r *results) ceiling() error {
	for range r.o.n {
		l, err := newLab(r.o)
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
			r.raw = append(r.raw, n/time.Since(began).Seconds())
		}
		l.close()
		if err != nil {
			return err
		}
	}
	return nil
}

// sustained offers new connections at a rate.
func (r *results) sustained(ctx context.Context, how, name string, rate int) error {
	l, err := newLab(r.o)
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
	res := sustainedResult{how: how, name: name, offered: rate, inSyncThroughout: true}
	base := l.a.count()
	cpu0, _ := machine.ReadCPUTime()
	a0, b0 := l.a.cpu(), l.b.cpu()
	probing, stopProbes := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var lagErr error
	wg.Go(func() { res.lag, lagErr = l.probeLag(probing) })
	total := rate * r.o.seconds
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
	res.made = float64(made) / took.Seconds()
	res.behind = l.a.count() - l.b.count()
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
			res.caught = time.Since(stopped)
			break
		}
	}
	cpu1, _ := machine.ReadCPUTime()
	res.busy = cpu1.Busy(cpu0)
	res.missing = max(0, want-l.b.count()-own)
	res.cpuA = float64((l.a.cpu() - a0).Microseconds()) / float64(made)
	res.cpuB = float64((l.b.cpu() - b0).Microseconds()) / float64(made)
	res.rssA, res.rssB = l.a.rss(), l.b.rss()
	if name == "twinkeep" {
		s := l.a.sync()
		res.lost = s.Stats.Lost
		res.repairs = s.Stats.RepairsGiven
	}
	r.rate = append(r.rate, res)
	fmt.Fprintf(os.Stderr, "%s, %s %d/s: made %.0f/s, missing %d, CPU %.1f + %.1f µs, caught up in %v, lost %d, repairs %d, busy %.0f %%\n", how, name, rate, res.made, res.missing, res.cpuA, res.cpuB, res.caught.Round(time.Millisecond), res.lost, res.repairs, res.busy)
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
func (r *results) join(ctx context.Context, name string, entries int) error {
	l, err := newLab(r.o)
	defer l.close()
	if err != nil {
		return err
	}
	ops := make([]statesync.KernelOp, 0, 1024)
	for at := 0; at < entries; at += len(ops) {
		ops = ops[:0]
		for i := at; i < min(at+1024, entries); i++ {
			ops = append(ops, tcp(flow(i)))
		}
		for _, err := range l.a.table.Apply(ops) {
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
	res := joinResult{name: name, entries: entries}
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
			res.took, res.complete = time.Since(began), true
			break
		}
		if time.Since(quiet) > 10*time.Second {
			break
		}
	}
	res.loaded = l.b.count()
	for name == "twinkeep" && time.Since(began) < time.Minute {
		if l.b.sync().InSync {
			res.inSync = time.Since(began)
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	res.cpu, res.rss, res.rssA = l.b.cpu(), l.b.rss(), l.a.rss()
	r.loading = append(r.loading, res)
	fmt.Fprintf(os.Stderr, "%s: %d of %d entries in %v, in sync after %v, CPU %v, memory %d + %d MiB\n", name, res.loaded, entries, res.took.Round(time.Millisecond), res.inSync.Round(time.Millisecond), res.cpu, res.rssA>>20, res.rss>>20)
	return nil
}
