package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/init/power"
	"github.com/twinkeep/twinkeep/init/supervise"
)

// run starts the services, keeps them running until somebody asks for the end,
// and brings the machine down. It returns only if the kernel refuses that.
func (m *machine) run() {
	down, ctx := m.down, m.down.ctx
	go m.guarded("signals", func() { m.signals(down) })
	if word(m.cmdline, "twinkeep.journal") == "console" {
		go m.guarded("journal on the console", func() { m.journal.Mirror(context.Background(), 0, os.Stdout) })
	}

	sup, err := m.supervisor(down)
	if err != nil {
		m.complain("services: %v", err)
		return
	}
	m.watchHealth()
	go m.guarded("ready", func() {
		<-sup.Settled()
		var words []string
		for _, s := range sup.Services() {
			words = append(words, s.Name+"="+string(s.State))
		}
		milestone("ready %s", strings.Join(words, " "))
		events := m.plugged()
		m.step("late", m.late)
		if events != nil {
			m.hotplug(events)
		}
	})
	if err := sup.Run(ctx); err != nil {
		m.complain("services: %v", err)
		return
	}
	action := down.wanted()
	milestone("services stopped, %s", action)
	if err := m.release(action); err != nil {
		m.complain("%v", err)
	}
	m.step("secrets", keepSecrets)
	if m.endBootlog != nil {
		m.endBootlog()
	}
	if err := power.Down(action, m.complain); err != nil {
		m.complain("%v", err)
	}
}

// supervisor makes the supervisor of the services.
func (m *machine) supervisor(down *shutdown) (*supervise.Supervisor, error) {
	var sup *supervise.Supervisor
	var err error
	sup, err = supervise.New(supervise.Config{
		Name: "init", RunDir: runDir, PID1: true, Journal: m.journal,
		Services: m.services(),
		Shutdown: down.ask,
		Tick: func() {
			if m.healthy(sup) {
				m.feed()
			}
		},
	})
	return sup, err
}

// signals turns signals to PID 1 into what they ask for. Ctrl-Alt-Del is
// SIGINT. SIGUSR1 and SIGUSR2 are what halt and poweroff commands send.
func (m *machine) signals(down *shutdown) {
	c := make(chan os.Signal, 4)
	signal.Notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2)
	for s := range c {
		action := supervise.Reboot
		if s == unix.SIGUSR1 || s == unix.SIGUSR2 {
			action = supervise.Poweroff
		}
		m.note("%v: %s", s, action)
		if err := down.ask(action); err != nil {
			m.note("%v", err)
		}
	}
}

// guarded keeps a panic in one of PID 1's goroutines from ending PID 1.
func (m *machine) guarded(name string, fn func()) {
	m.step(name, func() error { fn(); return nil })
}

// shutdown remembers what the first one who asked wanted.
type shutdown struct {
	ctx    context.Context // ends when somebody has asked
	cancel context.CancelFunc
	mu     sync.Mutex
	action supervise.Action
}

func newShutdown() *shutdown {
	ctx, cancel := context.WithCancel(context.Background())
	return &shutdown{ctx: ctx, cancel: cancel}
}

func (d *shutdown) ask(a supervise.Action) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.action != "" {
		return errors.New(string(d.action) + " is under way already")
	}
	d.action = a
	d.cancel()
	return nil
}

func (d *shutdown) wanted() supervise.Action {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.action == "" {
		return supervise.Reboot
	}
	return d.action
}
