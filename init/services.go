package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/init/addon"
	"github.com/twinkeep/twinkeep/init/console"
	"github.com/twinkeep/twinkeep/init/data"
	"github.com/twinkeep/twinkeep/init/supervise"
	"github.com/twinkeep/twinkeep/init/vault"
)

const (
	twinkeep = "/bin/twinkeep"
	shell    = "/bin/gosh"
)

// services lists what PID 1 keeps running, in start order. Consoles come first:
// they work however long the others take. had stops as soon as nothing waits
// for it, which is at once.
func (m *machine) services() []supervise.Service {
	exists := func(p string) bool { _, err := os.Stat(p); return err == nil }
	var out []supervise.Service
	serial := ""
	if m.board != nil {
		serial = m.board.Console.Device
	}
	for _, tty := range console.Devices(m.cmdline, serial, exists) {
		out = append(out, supervise.Service{
			Name:        "console-" + filepath.Base(tty),
			Argv:        m.cli(),
			Fallback:    m.fallback(),
			TTY:         tty,
			Dir:         "/root",
			StopTimeout: time.Second,
		})
	}
	if m.failsafe() || m.locked() {
		return out
	}
	dirs := []string{"--config", configDir, "--state", data.Mountpoint, "--run", runDir}
	out = append(out,
		supervise.Service{
			Name:         "gatewayd",
			Argv:         append([]string{twinkeep, "gatewayd"}, dirs...),
			ReadyTimeout: 30 * time.Second,
			Critical:     true,
		},
		supervise.Service{
			Name:         "had",
			Argv:         append([]string{twinkeep, "had"}, dirs...),
			After:        []string{"gatewayd"},
			ReadyTimeout: 30 * time.Second,
			StopTimeout:  2 * time.Second,
			Critical:     true,
			OnDying:      m.sayFarewell,
			OnExit:       func(context.Context, supervise.ExitStatus) { m.sayFarewell() },
		},
		supervise.Service{
			Name:         "statesyncd",
			Argv:         append([]string{twinkeep, "statesyncd"}, dirs...),
			After:        []string{"had"},
			ReadyTimeout: 30 * time.Second,
		})
	// Nothing waits for it, and it waits for the rules that say who reaches it.
	out = append(out, supervise.Service{Name: "sshd", Argv: append([]string{twinkeep, "sshd"}, dirs...), After: []string{"gatewayd"}, StopTimeout: time.Second})
	out = append(out, supervise.Service{Name: "apid", Argv: append([]string{twinkeep, "apid"}, dirs...), After: []string{"gatewayd"}, StopTimeout: time.Second})
	if m.board != nil {
		out = append(out, supervise.Service{
			Name: "hald",
			Argv: []string{twinkeep, "hald", "--run", runDir, "--board", m.board.Name},
			// The lamps can wait for those that carry traffic.
			After:       []string{"had"},
			StopTimeout: time.Second,
		})
	}
	if m.onDisk() {
		out = append(out, supervise.Service{Name: "upgraded", Argv: append([]string{twinkeep, "upgraded"}, dirs...), StopTimeout: time.Second})
	}
	var taken []string
	for _, s := range out {
		taken = append(taken, s.Name)
	}
	more, errs := addon.Load(addon.Dir, taken)
	for _, err := range errs {
		m.complain("%v", err)
	}
	return append(out, more...)
}

// cli is the program of a console.
func (m *machine) cli() []string {
	argv := []string{twinkeep, "cli", "--config", configDir}
	if m.failsafe() {
		argv = append(argv, "--failsafe")
	}
	return argv
}

// fallback is what a console becomes when its program cannot run: a shell, but
// not on a device that has a password, or may have one in its vault.
func (m *machine) fallback() []string {
	if vault.Box.Exists() {
		return nil
	}
	if _, err := os.Stat(filepath.Join(configDir, "admin")); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return []string{shell}
}

// sayFarewell speaks for a had that has died: it sends the frames that had has
// signed beforehand, so that the peers need not wait for the dead time. After
// an orderly end there are none, and nothing is sent.
func (m *machine) sayFarewell() {
	if err := member.Farewell(runDir); err != nil {
		m.note("farewell for had: %v", err)
	}
}
