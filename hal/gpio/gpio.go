// Package gpio is lines of GPIO chips by what a board file calls them: the label of the chip and the line's offset or
// name. It rests on periph.io/x/host/v3/gpioioctl, which speaks the kernel's character devices (/dev/gpiochip*).
package gpio

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"periph.io/x/conn/v3/driver/driverreg"
	"periph.io/x/conn/v3/gpio"
	"periph.io/x/host/v3/gpioioctl"
)

// Ref names a line.
type Ref struct {
	Chip      string // label; "*" is any text
	Line      int    // offset; -1: by name
	Name      string // of the line in the kernel
	ActiveLow bool   // low is lit, or pressed
	Pull      string // bias of an input: up, down, none; empty leaves it as it is
}

// String is the line for people.
func (r Ref) String() string {
	if r.Line < 0 {
		return fmt.Sprintf("GPIO %s line %q", r.Chip, r.Name)
	}
	return fmt.Sprintf("GPIO %s line %d", r.Chip, r.Line)
}

// ErrAbsent says that there is no such chip or line, or that its driver is not loaded.
var ErrAbsent = errors.New("no such GPIO line: is the driver of the chip loaded?")

// drivers makes periph look for chips, once a process: chips that appear later are not seen.
var drivers = sync.OnceValue(func() error {
	_, err := driverreg.Init()
	return err
})

// chips gives what is there. Opening the package's only driver fails where there is no chip at all.
func chips() []*gpioioctl.GPIOChip {
	if drivers() != nil {
		return nil
	}
	return gpioioctl.Chips
}

func find(r Ref) (*gpioioctl.GPIOLine, error) {
	for _, chip := range chips() {
		if ok, err := filepath.Match(r.Chip, chip.Label()); err != nil || !ok {
			continue
		}
		var line *gpioioctl.GPIOLine
		if r.Line >= 0 {
			line = chip.ByNumber(r.Line)
		} else {
			line = chip.ByName(r.Name)
		}
		if line != nil {
			return line, nil
		}
	}
	return nil, fmt.Errorf("%v: %w", r, ErrAbsent)
}

// Output is a line that we drive, e.g. a lamp.
type Output struct {
	ref  Ref
	line *gpioioctl.GPIOLine
}

// Out takes a line as an output, inactive at first. periph drives it low for a moment before, which a lamp does not show.
func Out(r Ref) (*Output, error) {
	line, err := find(r)
	if err != nil {
		return nil, err
	}
	o := &Output{r, line}
	return o, o.Set(false)
}

// Set makes the line active or inactive.
func (o *Output) Set(active bool) error {
	if err := o.line.Out(gpio.Level(active != o.ref.ActiveLow)); err != nil {
		return fmt.Errorf("%v: %w", o.ref, err)
	}
	return nil
}

// Close gives the line back to the kernel, which may leave it as it is or not.
func (o *Output) Close() error {
	o.line.Close()
	return nil
}

// Input is a line that we read, e.g. a button.
type Input struct {
	ref  Ref
	line *gpioioctl.GPIOLine
}

var pulls = map[string]gpio.Pull{"": gpio.PullNoChange, "none": gpio.Float, "up": gpio.PullUp, "down": gpio.PullDown}

// In takes a line as an input.
func In(r Ref) (*Input, error) {
	line, err := find(r)
	if err != nil {
		return nil, err
	}
	pull, ok := pulls[r.Pull]
	if !ok {
		return nil, fmt.Errorf("%v: pull %q is none of none, up, down", r, r.Pull)
	}
	if err := line.In(pull, gpio.BothEdges); err != nil {
		return nil, fmt.Errorf("%v: %w", r, err)
	}
	return &Input{r, line}, nil
}

// Active reads the line.
func (i *Input) Active() bool { return bool(i.line.Read()) != i.ref.ActiveLow }

// Wait waits for a change, at most so long, and tells whether there was one.
func (i *Input) Wait(limit time.Duration) bool { return i.line.WaitForEdge(limit) }

// Close gives the line back to the kernel. It ends a Wait.
func (i *Input) Close() error {
	err := i.line.Halt()
	i.line.Close()
	return err
}
