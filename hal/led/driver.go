package led

import (
	"sync"
	"time"
)

// Driver plays patterns on one lamp, in a goroutine of its own: a lamp behind a bus that hangs holds up nobody.
type Driver struct {
	lamp   Lamp
	change chan Pattern
	ended  chan struct{}

	mu  sync.Mutex
	lit bool
	err error // of the last write
}

// retry is how long a lamp that failed is left alone.
const retry = 5 * time.Second

// Drive begins to drive a lamp, which is dark at first.
func Drive(l Lamp) *Driver {
	d := &Driver{lamp: l, change: make(chan Pattern, 1), ended: make(chan struct{})}
	go d.run()
	return d
}

// Show makes the lamp show p from now on. A pattern that it shows already goes on undisturbed.
func (d *Driver) Show(p Pattern) {
	for {
		select {
		case d.change <- p:
			return
		default:
		}
		select {
		case <-d.change: // one that nobody has seen yet
		default:
		}
	}
}

// State tells whether the lamp is lit, and why it could not be switched.
func (d *Driver) State() (lit bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lit, d.err
}

// Close ends the pattern and leaves the lamp with what last begins with. No Show may follow.
func (d *Driver) Close(last Pattern) error {
	close(d.change)
	<-d.ended
	lit, _ := last.At(0)
	d.set(lit)
	return d.lamp.Close()
}

func (d *Driver) set(lit bool) error {
	err := d.lamp.Set(lit)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lit, d.err = lit, err
	return err
}

func (d *Driver) run() {
	defer close(d.ended)
	var p Pattern
	began := time.Now()
	written, lit := false, false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case q, open := <-d.change:
			if !open {
				return
			}
			if !q.Equal(p) {
				p, began = q, time.Now()
			}
		case <-timer.C:
		}
		now, rest := p.At(time.Since(began))
		if !written || now != lit {
			lit = now
			written = d.set(lit) == nil
		}
		switch {
		case !written:
			timer.Reset(retry)
		case rest > 0:
			timer.Reset(rest)
		default:
			timer.Stop()
		}
	}
}
