package main

import (
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/twinkeep/twinkeep/hal/watchdog"
	"github.com/twinkeep/twinkeep/init/supervise"
	"github.com/twinkeep/twinkeep/init/uevent"
)

// watchdogTimeout is how long PID 1 may be stuck before the machine resets. It
// is far above the seconds that a busy machine can take, and only a backstop:
// the peer has taken over after tens of milliseconds.
const watchdogTimeout = 30 * time.Second

// late does what nothing waits for, once the services are up: drivers of disks
// and watchdogs. (On emulated hardware the SATA driver alone takes 0.4 s.)
func (m *machine) late() error {
	if m.loader == nil || m.watchdog.Load() != nil {
		return nil // from a disk all this was done at the start
	}
	if err := m.lateDrivers(); err != nil {
		return err
	}
	return m.openWatchdog()
}

// plugged begins to hear of devices; nil where no driver can be loaded.
func (m *machine) plugged() *uevent.Listener {
	if m.loader == nil {
		return nil
	}
	events, err := uevent.Listen()
	if err != nil {
		m.note("drivers of what is plugged in from now on are not loaded: %v", err)
		return nil
	}
	return events
}

// hotplug loads the drivers of what is plugged in while the machine runs, such as USB sticks: there is no udev. events are those since before late has
// looked.
func (m *machine) hotplug(events *uevent.Listener) {
	for {
		e, err := events.Next()
		switch {
		case errors.Is(err, uevent.ErrLost):
			m.lateDrivers()
		case err != nil:
			m.note("drivers of what is plugged in from now on are not loaded: %v", err)
			return
		case e.Action == "add" && e.Modalias != "":
			for _, err := range m.loader.Device(e.Modalias) {
				m.complain("%s: %v", e.Path, err)
			}
		}
	}
}

// openWatchdog uses the watchdog that is there, after trying the drivers
// that the board file names.
func (m *machine) openWatchdog() error {
	class := os.DirFS("/sys/class/watchdog")
	if m.board != nil {
		for _, driver := range m.board.Watchdog {
			if _, err := os.Stat(watchdog.Find(class)); !errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err := m.loader.Load(driver); err != nil {
				m.note("watchdog: %v", err)
			}
		}
	}
	w, err := watchdog.Open(watchdog.Find(class), watchdogTimeout)
	if err != nil {
		m.note("watchdog: %v", err)
		return nil
	}
	m.note("watchdog: %s, timeout %v, last boot: %v", w.Info().Identity, w.Timeout(), w.Info().Boot)
	if w.Info().Boot.ByWatchdog() {
		m.complain("the watchdog caused the last reset")
	}
	m.watchdog.Store(w)
	return nil
}

// feed restarts the watchdog. It is called by the supervisor's loop, so that a
// PID 1 that is stuck does not, and only while the tree is healthy.
func (m *machine) feed() {
	w := m.watchdog.Load()
	if w == nil {
		return
	}
	if err := w.Keepalive(); err != nil {
		m.note("%v", err)
	}
}

// release ends the watchdog before the power goes. For a reboot it stays armed:
// it ends a reboot that hangs.
func (m *machine) release(action supervise.Action) error {
	w := m.watchdog.Load()
	if w == nil || action != supervise.Poweroff {
		return nil
	}
	return w.Disarm()
}
