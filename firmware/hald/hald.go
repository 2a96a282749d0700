// Package hald is the daemon of the case: lamps, buttons, temperatures, the power-fail input and the buzzer, as the board
// file names them. It shows the role that had tells, turns presses into orders, and reports heat and a failing supply to
// had as critical devices. core.go decides, this file carries the decisions out; nothing in the forwarding path waits for
// hald, and a box without it works as well.
package hald

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/board"
	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/hal/buzzer"
	"github.com/twinkeep/twinkeep/hal/led"
	"github.com/twinkeep/twinkeep/hal/sensor"
	"github.com/twinkeep/twinkeep/init/data"
	"github.com/twinkeep/twinkeep/init/supervise"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// Options of Run.
type Options struct {
	Board    *board.Board
	RunDir   string
	Sys, Dev string // "/sys" and "/dev" when empty
	Ready    func() // may be nil
	Log      *slog.Logger
}

const (
	// factsEvery is how often had is asked: a role is on the lamps half a second after it changed at most.
	factsEvery = 500 * time.Millisecond
	// readEvery is how often temperatures are read.
	readEvery = 5 * time.Second
	// reopenEvery is how often parts that are not there yet are looked for.
	reopenEvery = 5 * time.Second
)

type daemon struct {
	Options
	client *api.Client
	began  time.Time
	tunes  chan buzzer.Tune

	mu    sync.Mutex // guards core and parts
	core  *core
	parts *parts
	wake  chan struct{} // the core's deadline may have changed
}

// Run serves until ctx ends. Lamps go dark at the end, which tells an operator that nobody drives them.
func Run(ctx context.Context, o Options) error {
	if o.Sys == "" {
		o.Sys = "/sys"
	}
	if o.Dev == "" {
		o.Dev = "/dev"
	}
	if err := os.MkdirAll(o.RunDir, 0o755); err != nil {
		return fmt.Errorf("hald: %w", err)
	}
	ln, err := unixhttp.Listen(filepath.Join(o.RunDir, api.HaldSocket))
	if err != nil {
		return fmt.Errorf("hald: %w", err)
	}
	defer ln.Close()
	ctx, cancel := context.WithCancel(ctx)
	d := &daemon{
		Options: o, client: api.NewClient(o.RunDir), began: time.Now(), core: newCore(o.Board), parts: newParts(o.Board, o.Sys, o.Dev),
		tunes: make(chan buzzer.Tune, 1), wake: make(chan struct{}, 1),
	}
	var group sync.WaitGroup
	defer group.Wait()
	defer d.parts.close()
	defer cancel()
	for _, work := range []func(context.Context){d.open, d.follow, d.measure, d.wait, d.sound} {
		group.Go(func() { work(ctx) })
	}
	if d.Ready != nil {
		d.Ready()
	}
	return unixhttp.Serve(ctx, ln, d.handler())
}

// now is the core's time.
func (d *daemon) now() time.Duration { return time.Since(d.began) }

// event gives the core one event, shows what came of it and carries out the orders.
func (d *daemon) event(ctx context.Context, give func(c *core, now time.Duration) []Order) {
	d.mu.Lock()
	orders := give(d.core, d.now())
	d.parts.show(d.core.lamp)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
	for _, o := range orders {
		d.carryOut(ctx, o)
	}
}

// every calls work at once and then again and again.
func every(ctx context.Context, interval time.Duration, work func()) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		work()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// open looks for parts that are not there yet: drivers of disks and USB come late.
func (d *daemon) open(ctx context.Context) {
	var group sync.WaitGroup
	defer group.Wait()
	every(ctx, reopenEvery, func() {
		d.mu.Lock()
		news, watch := d.parts.open()
		d.core.faults = d.parts.faults()
		d.mu.Unlock()
		for _, n := range news {
			d.Log.Info(n)
		}
		for _, w := range watch {
			group.Go(func() { d.listen(ctx, w) })
		}
		d.event(ctx, func(c *core, _ time.Duration) []Order { return c.review() })
	})
}

// listen passes on the changes of an input until it fails or ctx ends; then it is looked for again.
func (d *daemon) listen(ctx context.Context, w *watched) {
	err := w.run(ctx, func(down bool) {
		d.event(ctx, func(c *core, now time.Duration) []Order {
			if w.button == "" {
				return c.failing(now, down)
			}
			return c.pressed(now, w.button, down)
		})
	})
	d.mu.Lock()
	d.parts.lost(w, err)
	d.mu.Unlock()
	if ctx.Err() == nil {
		d.Log.Warn("an input of the case is gone", "input", w.String(), "err", err)
	}
}

// follow asks the other daemons how the box is.
func (d *daemon) follow(ctx context.Context) {
	every(ctx, factsEvery, func() {
		f := d.facts(ctx)
		d.event(ctx, func(c *core, _ time.Duration) []Order { return c.learn(f) })
	})
}

// measure reads the temperatures.
func (d *daemon) measure(ctx context.Context) {
	every(ctx, readEvery, func() {
		for i, s := range d.Board.Sensors {
			r, err := sensor.Read(d.Sys, s.Chip, s.Input)
			d.event(ctx, func(c *core, _ time.Duration) []Order { return c.reading(i, r, err) })
		}
	})
}

// wait tells the core the time when it has something to do.
func (d *daemon) wait(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		d.mu.Lock()
		at, ok := d.core.deadline()
		d.mu.Unlock()
		if ok {
			timer.Reset(max(0, at-d.now()))
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		case <-timer.C:
			d.event(ctx, func(c *core, now time.Duration) []Order { return c.tick(now) })
		}
	}
}

// sound plays tunes one after the other; one that comes while another waits is not played.
func (d *daemon) sound(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-d.tunes:
			d.mu.Lock()
			s := d.parts.sounder
			d.mu.Unlock()
			if s == nil {
				continue
			}
			if err := buzzer.Play(ctx, s, t); err != nil && ctx.Err() == nil {
				d.Log.Warn("the buzzer is silent", "err", err)
			}
		}
	}
}

// facts asks had, gatewayd and the boot loader's traces.
func (d *daemon) facts(ctx context.Context) Facts {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	f := Facts{Uptime: supervise.Uptime()}
	ha, err := d.client.HA(ctx)
	f.Answers, f.HA = err == nil, ha
	if n, err := d.client.Node(ctx); err == nil {
		f.Applied = n.Applied
	}
	if l, err := d.client.Licence(ctx); err == nil && l.State == "lockdown" {
		f.Locked = l.Reason
	}
	f.Upgrading = upgrading(d.RunDir)
	f.Disk = data.Room()
	return f
}

// carryOut does what the core ordered. Orders to other daemons have a time limit and do not hold up the next event.
func (d *daemon) carryOut(ctx context.Context, o Order) {
	client := func(what string, do func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		err := do(ctx)
		if err != nil {
			d.Log.Error("could not "+what, "err", err)
		}
		return err
	}
	switch o.Do {
	case Say:
		level := slog.LevelInfo
		if o.Bad {
			level = slog.LevelWarn
		}
		d.Log.Log(ctx, level, o.Text)
	case Sound:
		select {
		case d.tunes <- o.Tune:
		default:
		}
	case PowerOff:
		client("switch off", func(ctx context.Context) error { return d.client.Shutdown(ctx, supervise.Poweroff) })
	case FactoryReset:
		if err := client("reset to factory settings", d.factoryReset); err != nil {
			d.event(ctx, func(c *core, _ time.Duration) []Order { return c.notReset(err) })
		}
	case GiveAway:
		client("give the role away", func(ctx context.Context) error {
			_, err := d.client.Deactivate(ctx)
			go unix.Sync() // what the disk holds counts less than the role
			return err
		})
	case Report:
		client("report "+o.Device, func(ctx context.Context) error {
			_, err := d.client.ReportDevice(ctx, o.Device, api.DeviceReport{State: "problem", Text: o.Text})
			return err
		})
	case Clear:
		client("clear "+o.Device, func(ctx context.Context) error {
			_, err := d.client.UnregisterDevice(ctx, o.Device)
			return err
		})
	}
}

// factoryReset asks PID 1 to make the data partition anew, and restarts. Without one the restart forgets everything.
func (d *daemon) factoryReset(ctx context.Context) error {
	if disk, err := data.Read(); err == nil {
		if err := disk.AskReset(); err != nil {
			return err
		}
	}
	return d.client.Shutdown(ctx, supervise.Reboot)
}

// show is led.Show with the lamp's pattern from the core.
func (p *parts) show(pattern func(led.Purpose) led.Pattern) {
	for _, l := range p.lamps {
		if l.driver != nil {
			l.driver.Show(pattern(led.Purpose(l.spec.Shows)))
		}
	}
}
