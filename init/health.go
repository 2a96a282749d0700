package main

import (
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/init/health"
	"github.com/twinkeep/twinkeep/init/supervise"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// asked are the sockets on which critical services are asked how they are. Any answer counts.
var asked = map[string]string{"gatewayd": "/v1/node", "had": "/v1/status"}

const (
	askEvery   = 5 * time.Second
	askTimeout = 10 * time.Second
	noteAfter  = 15 * time.Second
)

// tree is what PID 1 knows of the health of the machine.
type tree struct {
	mu       sync.Mutex
	answered map[string]time.Duration // by the time since boot
	judge    health.Judge
	said     bool // that something is ill
}

// watchHealth asks the critical services for ever.
func (m *machine) watchHealth() {
	m.tree.mu.Lock()
	m.tree.answered = make(map[string]time.Duration)
	if d, err := time.ParseDuration(word(m.cmdline, "twinkeep.health.limit")); err == nil {
		m.tree.judge.Limit = d
	}
	m.tree.mu.Unlock()
	for name, path := range asked {
		go m.guarded("health of "+name, func() {
			socket := filepath.Join(runDir, name+".sock")
			client := &http.Client{Timeout: askTimeout, Transport: &http.Transport{
				DisableKeepAlives: true,
				DialContext:       unixhttp.Dial(socket),
			}}
			for ; ; time.Sleep(askEvery) {
				resp, err := client.Get("http://" + name + path)
				if err != nil {
					continue
				}
				resp.Body.Close()
				m.tree.mu.Lock()
				m.tree.answered[name] = supervise.Uptime()
				m.tree.mu.Unlock()
			}
		})
	}
}

// healthy judges the tree, restarts what does not answer, and tells whether the watchdog may be fed. It is called by the
// supervisor's loop once a second.
func (m *machine) healthy(sup *supervise.Supervisor) bool {
	now := supervise.Uptime()
	t := &m.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	var services []health.Service
	for _, s := range sup.Services() {
		if !s.Critical {
			continue
		}
		_, known := asked[s.Name]
		if _, ever := t.answered[s.Name]; known && !ever && t.answered != nil {
			t.answered[s.Name] = now
		}
		services = append(services, health.Service{ServiceStatus: s, Asked: known, Answered: t.answered[s.Name]})
	}
	if w := m.watchdog.Load(); w != nil {
		// On trial a reset leads back to the other image, so it is always tried.
		t.judge.Spent = w.Info().Boot.ByWatchdog() && m.loaded.CountPath == ""
	}
	v := t.judge.Step(now, services)
	// A service that is starting is not worth a word.
	switch {
	case v.Why != "" && !t.said && v.For >= noteAfter:
		m.note("health: %s", v.Why)
		t.said = true
	case v.Why == "" && t.said:
		m.note("health: all critical services are well again")
		t.said = false
	}
	for _, name := range v.Restart {
		m.note("health: %s does not answer and is restarted", name)
		t.said = true
		if err := sup.Restart(name); err != nil {
			m.note("%v", err)
		}
	}
	if !v.Feed && !m.starved {
		m.complain("health: %s; the watchdog is not fed any more and resets the machine", v.Why)
	}
	m.starved = !v.Feed
	return v.Feed
}
