package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/init/bootlog"
	"github.com/twinkeep/twinkeep/init/data"
	"github.com/twinkeep/twinkeep/init/loader"
	"github.com/twinkeep/twinkeep/init/module"
	"github.com/twinkeep/twinkeep/init/supervise"
	"github.com/twinkeep/twinkeep/init/vault"
)

const (
	pstoreDir = "/sys/fs/pstore"
	// diskPatience is how long the disk may take to appear. USB disks behind hubs
	// need several seconds.
	diskPatience = 20 * time.Second
	// drivePatience is how long a box without configuration waits for a stick.
	drivePatience = 5 * time.Second
	// repairLimit is how long the watchdog is kept quiet while a large data
	// partition is checked.
	repairLimit = 10 * time.Minute
	// trialLimit is how long an image on trial may take to be confirmed.
	trialLimit = 10 * time.Minute
	// confirmedFile is written by whoever confirms the trial (firmware/upgrade/trial).
	confirmedFile = runDir + "/confirmed"
)

// onDisk tells whether this image was started from a disk, and not by the lab.
func (m *machine) onDisk() bool { return word(m.cmdline, data.Word) == "1" }

// fromDisk does what an image on a disk needs before everything else: the
// watchdog, so that a boot that hangs comes to an end, then the data partition.
func (m *machine) fromDisk() {
	m.step("boot loader", m.readLoader)
	m.step("drivers of disks", m.lateDrivers)
	m.step("watchdog", m.openWatchdog)
	m.step("data partition", func() error {
		stop := m.feedFor(repairLimit)
		defer stop()
		return m.dataPartition()
	})
	m.step("journal", m.openBootlog)
}

func (m *machine) readLoader() error {
	var err error
	m.loaded, err = loader.Read(loader.Vars)
	if m.failsafe() {
		milestone("failsafe: consoles only, nothing is forwarded")
	}
	m.note("boot loader: entry %q, partition %q, counted %q", m.loaded.Entry, m.loaded.Partition, m.loaded.CountPath)
	if m.loaded.CountPath != "" {
		milestone("on trial: %s", m.loaded.Entry)
		go m.guarded("trial", m.endTrial)
	}
	return err
}

// failsafe tells whether a person has chosen the failsafe entry of the boot menu:
// then nothing runs but consoles, and no interface has an address.
func (m *machine) failsafe() bool { return strings.HasPrefix(m.loaded.Entry, "failsafe-") }

// endTrial restarts the machine when its image was not confirmed in time. The
// loader takes the other slot then. It is here, in PID 1, because what is on
// trial may be too broken to judge itself.
func (m *machine) endTrial() {
	limit := trialLimit
	if d, err := time.ParseDuration(word(m.cmdline, "twinkeep.trial.limit")); err == nil {
		limit = d
	}
	time.Sleep(limit)
	if _, err := os.Stat(confirmedFile); err == nil {
		return
	}
	m.complain("the image on trial was not confirmed within %v: going back to the other one", limit)
	if err := m.down.ask(supervise.Reboot); err != nil {
		m.note("%v", err)
	}
}

func (m *machine) lateDrivers() error {
	if m.loader == nil {
		return fmt.Errorf("there is no module index")
	}
	for _, err := range m.loader.Hardware("/sys", module.Late) {
		m.complain("%v", err)
	}
	return nil
}

// feedFor keeps the watchdog quiet until the function it returns is called, but
// not for ever.
func (m *machine) feedFor(limit time.Duration) (stop func()) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	done := make(chan struct{})
	go m.guarded("watchdog", func() {
		defer close(done)
		for {
			m.feed()
			select {
			case <-ctx.Done():
				return
			case <-time.After(5 * time.Second):
			}
		}
	})
	return func() { cancel(); <-done }
}

func (m *machine) dataPartition() error {
	d, err := data.Open(data.Options{
		Partition: m.loaded.Partition, Patience: diskPatience,
		Probe: func() { m.lateDrivers() }, // reports by itself
		Say:   m.complain,
	})
	if err != nil {
		return fmt.Errorf("%w; the box runs from memory, nothing survives a restart", err)
	}
	milestone("data partition %s mounted", d.Data)
	m.step("secrets", m.openSecrets)
	if m.locked() {
		return nil
	}
	if !vault.Box.Exists() {
		if err := data.Config(configDir); err != nil {
			return err
		}
	}
	drive, err := data.FromDrive(configDir, drivePatience, func() { m.lateDrivers() }, keeper{})
	if drive != "" && err == nil {
		m.complain("the node file was taken from the drive %s: take it out, it holds the cluster key", drive)
	}
	return err
}

// openBootlog writes the journal to the data partition, and takes the kernel's
// last words of the boot before.
func (m *machine) openBootlog() error {
	if _, err := data.Read(); err != nil {
		return nil // no disk, and it has been said
	}
	l, err := bootlog.Open(data.Mountpoint + "/" + data.JournalDir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	m.endBootlog = func() {
		cancel()
		<-done
		l.Close()
	}
	go m.guarded("journal on the disk", func() {
		defer close(done)
		m.journal.Mirror(ctx, 0, l)
	})
	if m.loader != nil {
		if err := m.loader.Load("efi_pstore"); err != nil {
			m.note("crash logs: %v", err)
		}
	}
	crashed, err := l.TakeCrash(pstoreDir)
	if crashed {
		m.complain("the last boot ended in a kernel panic: see log --boot -1")
	}
	return err
}
