package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// DeviceState is what a critical device says of itself (after ClusterXL: ok, init, problem).
type DeviceState uint8

const (
	// DeviceOK makes no difference.
	DeviceOK DeviceState = iota
	// DeviceInit keeps a member that is not active in READY: it is fit, but not yet prepared to take the role.
	DeviceInit
	// DeviceProblem makes the member unfit.
	DeviceProblem
	// DeviceLockdown forbids the member to hold the role, even when no other can.
	DeviceLockdown
)

// String returns the state as operators write it.
func (s DeviceState) String() string {
	switch s {
	case DeviceOK:
		return "ok"
	case DeviceInit:
		return "init"
	case DeviceLockdown:
		return "lockdown"
	}
	return "problem"
}

// Device is a report of a critical device: anything whose failure makes this member unfit. The first report
// registers it.
type Device struct {
	Name  string
	State DeviceState
	Text  string // why, for people
	// Timeout, if not 0, is how long the device may be silent; then it counts as a problem until it reports again.
	Timeout time.Duration
}

// Unregister takes a critical device off the list.
type Unregister struct{ Name string }

func (Device) input()     {}
func (Unregister) input() {}

// MaxDevices bounds the list of critical devices.
const MaxDevices = 64

// device is a registered critical device.
type device struct {
	Device
	last   Instant
	silent bool
}

// deadline is when the device's silence becomes a problem.
func (d *device) deadline() Instant {
	if d.Timeout == 0 || d.silent {
		return Never
	}
	return d.last.Add(d.Timeout)
}

func (d *device) state() DeviceState {
	if d.silent && d.State != DeviceLockdown {
		return DeviceProblem
	}
	return d.State
}

func (d *device) text() string {
	if d.silent {
		return fmt.Sprintf("has not reported for %v", d.Timeout)
	}
	return d.Text
}

func (m *Machine) setDevice(in Device) {
	d, at := m.device(in.Name)
	if d == nil {
		if len(m.devices) >= MaxDevices {
			m.reply(false, fmt.Sprintf("there are %d critical devices already: unregister one first", MaxDevices))
			return
		}
		d = &device{Device: Device{Name: in.Name}}
		m.devices = slices.Insert(m.devices, at, d)
	}
	was, said := d.state(), d.text()
	d.Device, d.last, d.silent = in, m.now, false
	if was != d.state() || said != d.text() {
		m.logDevice(d)
	}
	m.reply(true, in.Name+": "+d.State.String())
}

func (m *Machine) unregister(in Unregister) {
	d, at := m.device(in.Name)
	if d == nil {
		m.reply(false, "there is no critical device "+in.Name)
		return
	}
	m.devices = slices.Delete(m.devices, at, at+1)
	m.log(Notice, EvDevice, in.Name+": unregistered")
	m.reply(true, in.Name+" is unregistered")
}

// silentDevices finds the devices that have not reported in time.
func (m *Machine) silentDevices() {
	for _, d := range m.devices {
		if m.now >= d.deadline() {
			d.silent = true
			m.logDevice(d)
		}
	}
}

func (m *Machine) logDevice(d *device) {
	severity := Notice
	if d.state() >= DeviceProblem {
		severity = Warning
	}
	text := d.Name + ": " + d.state().String()
	if d.text() != "" {
		text += ", " + d.text()
	}
	m.log(severity, EvDevice, text)
}

// device finds a critical device, and where it is or would be in the list.
func (m *Machine) device(name string) (*device, int) {
	i, found := slices.BinarySearchFunc(m.devices, name, func(d *device, name string) int { return strings.Compare(d.Name, name) })
	if !found {
		return nil, i
	}
	return m.devices[i], i
}

// failing counts the critical devices with a problem.
func (m *Machine) failing() (n int) {
	for _, d := range m.devices {
		if d.state() >= DeviceProblem {
			n++
		}
	}
	return n
}

// preparing names a device that is still in init, or is empty.
func (m *Machine) preparing() string {
	for _, d := range m.devices {
		if d.state() == DeviceInit {
			return d.Name
		}
	}
	return ""
}

// lockdown reports whether a critical device forbids this member to hold the role.
func (m *Machine) lockdown() bool {
	for _, d := range m.devices {
		if d.state() == DeviceLockdown {
			return true
		}
	}
	return false
}

// obeyLockdown gives the role up, to the best if there is one.
func (m *Machine) obeyLockdown() {
	if !m.lockdown() {
		return
	}
	why := fmt.Sprintf("lockdown: %v", m.problems())
	if s := m.successor(); s != nil {
		m.release(s.id, why)
		return
	}
	m.log(Warning, EvReleased, why+"; no member can take over")
	m.rest(why)
	m.beatAll()
}
