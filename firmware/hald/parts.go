package hald

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twinkeep/twinkeep/board"
	"github.com/twinkeep/twinkeep/hal/buzzer"
	"github.com/twinkeep/twinkeep/hal/evdev"
	"github.com/twinkeep/twinkeep/hal/gpio"
	"github.com/twinkeep/twinkeep/hal/led"
)

// parts are the board's lamps, inputs and sounder, as far as they are there.
type parts struct {
	sys, dev     string
	lamps        []*lamp
	inputs       []*watched
	buzzer       *board.Buzzer
	sounder      buzzer.Sounder // nil: none
	closeSounder func() error   // of the sounder
	silent       error          // why there is none
}

type lamp struct {
	spec   board.LED
	device string
	driver *led.Driver // nil: not there
	err    error
}

// watched is a button or the power-fail input.
type watched struct {
	button string // its name; empty: power-fail
	spec   board.Input
	device string
	open   bool
	err    error
	run    func(ctx context.Context, change func(down bool)) error
}

// String names it for people.
func (w *watched) String() string {
	if w.button == "" {
		return "power-fail input"
	}
	return "button " + w.button
}

func newParts(b *board.Board, sys, dev string) *parts {
	p := &parts{sys: sys, dev: dev, buzzer: b.Buzzer}
	for _, l := range b.LEDs {
		p.lamps = append(p.lamps, &lamp{spec: l, device: lampName(l)})
	}
	for _, k := range b.Buttons {
		p.inputs = append(p.inputs, &watched{button: k.Name, spec: k.Input, device: inputName(k.Input)})
	}
	if b.PowerFail != nil {
		p.inputs = append(p.inputs, &watched{spec: *b.PowerFail, device: inputName(*b.PowerFail)})
	}
	return p
}

func ref(g *board.GPIO) gpio.Ref {
	r := gpio.Ref{Chip: g.Chip, Line: -1, Name: g.Name, ActiveLow: g.ActiveLow, Pull: g.Pull}
	if g.Line != nil {
		r.Line = *g.Line
	}
	return r
}

func lampName(l board.LED) string {
	if l.GPIO != nil {
		return ref(l.GPIO).String()
	}
	return l.Class
}

func inputName(in board.Input) string {
	if in.GPIO != nil {
		return ref(in.GPIO).String()
	}
	return in.Key.Device + " " + in.Key.Code
}

// open looks for what is not there yet. It tells what is new, and which inputs have to be listened to.
func (p *parts) open() (news []string, watch []*watched) {
	note := func(what string, before, now error) {
		switch {
		case now == nil:
			news = append(news, what+" is there")
		case before == nil || before.Error() != now.Error():
			news = append(news, fmt.Sprintf("%s is not there: %v", what, now))
		}
	}
	for _, l := range p.lamps {
		if l.driver != nil {
			continue
		}
		before := l.err
		l.err = p.openLamp(l)
		note("LED "+l.spec.Name, before, l.err)
	}
	for _, w := range p.inputs {
		if w.open {
			continue
		}
		before := w.err
		w.err = p.openInput(w)
		note(w.String(), before, w.err)
		if w.err == nil {
			w.open = true
			watch = append(watch, w)
		}
	}
	if p.buzzer != nil && p.sounder == nil {
		before := p.silent
		p.silent = p.openBuzzer()
		note("buzzer", before, p.silent)
	}
	return news, watch
}

func (p *parts) openLamp(l *lamp) error {
	if l.spec.GPIO != nil {
		out, err := gpio.Out(ref(l.spec.GPIO))
		if err == nil {
			l.driver = led.Drive(out)
		}
		return err
	}
	c, err := led.OpenClass(p.sys, l.spec.Class)
	if err == nil {
		l.driver, l.device = led.Drive(c), c.Name
	}
	return err
}

func (p *parts) openBuzzer() error {
	names, err := evdev.Find(p.sys, p.buzzer.Device)
	if err != nil {
		return err
	}
	d, err := evdev.Open(p.dev, names[0], true)
	if err == nil {
		p.sounder, p.closeSounder = d, d.Close
	}
	return err
}

// openInput opens an input and leaves in run how it is listened to.
func (p *parts) openInput(w *watched) error {
	if w.spec.GPIO != nil {
		in, err := gpio.In(ref(w.spec.GPIO))
		if err == nil {
			w.run = func(ctx context.Context, change func(bool)) error { return listenLine(ctx, in, change) }
		}
		return err
	}
	names, err := evdev.Find(p.sys, w.spec.Key.Device)
	if err != nil {
		return err
	}
	var devices []*evdev.Device
	for _, n := range names {
		d, err := evdev.Open(p.dev, n, false)
		if err != nil {
			for _, d := range devices {
				d.Close()
			}
			return err
		}
		devices = append(devices, d)
	}
	code, _ := w.spec.Key.KeyCode() // the board file was checked
	w.run = func(ctx context.Context, change func(bool)) error { return listenKey(ctx, devices, code, change) }
	return nil
}

// settle is how long the contacts of a bare button bounce.
const settle = 20 * time.Millisecond

// listenLine passes on the changes of a GPIO line, and its level at the start when it is active.
func listenLine(ctx context.Context, in *gpio.Input, change func(bool)) error {
	defer in.Close()
	last := false
	for ctx.Err() == nil {
		if now := in.Active(); now != last {
			last = now
			change(now)
		}
		if in.Wait(time.Second) {
			time.Sleep(settle)
		}
	}
	return ctx.Err()
}

// listenKey passes on the changes of one key of several devices, and that it is down at the start.
func listenKey(ctx context.Context, devices []*evdev.Device, code uint16, change func(bool)) error {
	// Close ends Next.
	stop := context.AfterFunc(ctx, func() {
		for _, d := range devices {
			d.Close()
		}
	})
	failed := make(chan error, len(devices))
	for _, d := range devices {
		go func() {
			if down, err := d.Down(code); err == nil && down {
				change(true)
			}
			for {
				c, err := d.Next()
				if err != nil {
					failed <- err
					return
				}
				if c.Code == code {
					change(c.Down)
				}
			}
		}()
	}
	err := <-failed
	if stop() {
		for _, d := range devices {
			d.Close()
		}
	}
	for range len(devices) - 1 {
		err = errors.Join(err, <-failed)
	}
	return err
}

// lost tells that an input has to be looked for again.
func (p *parts) lost(w *watched, err error) { w.open, w.err = false, err }

// faults are parts without which the box is less safe than its board promises. A lamp is not one of them.
func (p *parts) faults() (out []string) {
	for _, w := range p.inputs {
		if w.button == "" && w.err != nil {
			out = append(out, fmt.Sprintf("%v: %v", w, w.err))
		}
	}
	return out
}

// close leaves the lamps dark.
func (p *parts) close() {
	for _, l := range p.lamps {
		if l.driver != nil {
			l.driver.Close(led.Off)
		}
	}
	if p.closeSounder != nil {
		p.closeSounder()
	}
}
