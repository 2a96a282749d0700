package member

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/gate"
	"github.com/twinkeep/twinkeep/ha/vip"
	"github.com/twinkeep/twinkeep/ha/wire"
)

// eventLog is the newest events, for the console.
type eventLog struct {
	mu  sync.Mutex
	seq uint64
	buf []Event
}

const maxEvents = 512

func newEventLog() *eventLog { return &eventLog{} }

func (l *eventLog) add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	e.Seq = l.seq
	l.buf = append(l.buf, e)
	if n := len(l.buf) - maxEvents; n > 0 {
		l.buf = slices.Delete(l.buf, 0, n)
	}
}

// Events returns the events after seq, oldest first; older ones than the newest 512 are gone.
func (m *Member) Events(seq uint64) []Event {
	m.events.mu.Lock()
	defer m.events.mu.Unlock()
	i, _ := slices.BinarySearchFunc(m.events.buf, seq+1, func(e Event, s uint64) int {
		if e.Seq < s {
			return -1
		}
		return 1
	})
	return slices.Clone(m.events.buf[i:])
}

// LevelNotice is the level of a notice, for which slog has no word.
const LevelNotice = slog.LevelInfo + 1

func (m *Member) event(e cluster.Log) {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	m.events.add(Event{Uptime: Duration(ts.Nano()), Severity: string(e.Severity), Name: e.Name, Text: e.Text})
	level := map[cluster.Severity]slog.Level{cluster.Info: slog.LevelInfo, cluster.Notice: LevelNotice, cluster.Warning: slog.LevelWarn, cluster.Error: slog.LevelError}[e.Severity]
	m.log.Log(context.Background(), level, e.Name, "text", e.Text)
}

// ErrStopped says that the member is not running.
var ErrStopped = errors.New("the member is not running")

// Activate asks for the role (`ha -activate`), or takes it without a majority (`--force`).
func (m *Member) Activate(force bool) (cluster.Reply, error) {
	return m.ask(cluster.Activate{Force: force})
}

// Deactivate gives the role away (`ha -deactivate`, `cluster failover`): to the member to, or to the best if that is 0;
// after away, if that is not 0, this member asks for it back.
func (m *Member) Deactivate(to uint8, away time.Duration) (cluster.Reply, error) {
	return m.ask(cluster.Deactivate{To: to, For: away})
}

// Report registers a critical device, or takes in what it says of itself.
func (m *Member) Report(d cluster.Device) (cluster.Reply, error) { return m.ask(d) }

// Unregister takes a critical device off the list.
func (m *Member) Unregister(name string) (cluster.Reply, error) {
	return m.ask(cluster.Unregister{Name: name})
}

func (m *Member) ask(in cluster.Input) (cluster.Reply, error) {
	var r cluster.Reply
	ok := m.do(func() {
		m.step(in)
		r = m.reply
	})
	if !ok {
		return r, ErrStopped
	}
	return r, nil
}

// Status describes the member and its view of the cluster.
func (m *Member) Status() (Status, error) {
	var s Status
	if !m.do(func() { s = m.status() }) {
		return Status{}, ErrStopped
	}
	// What asks the kernel is done outside the machine's goroutine: it must not wait for a long transaction.
	if len(m.ports) == 0 {
		// A witness elsewhere has none.
	} else if g, err := gate.Read(); err != nil {
		s.Gate.Error = err.Error()
	} else {
		s.Gate = GateStatus{Open: g.Open, Draining: g.Draining}
	}
	s.RSS = residentBytes()
	m.addControl(&s)
	return s, nil
}

func (m *Member) status() Status {
	v, now := m.machine.View(), m.now()
	age := func(ever bool, t cluster.Instant) Duration {
		if !ever {
			return -1
		}
		return Duration(now.Sub(t))
	}
	t := m.cfg.Timing
	s := Status{
		ClusterID: m.cfg.ClusterID, ClusterName: m.cfg.ClusterName, Member: m.cfg.Self, MemberName: m.name(m.cfg.Self),
		Designated: v.Designated == m.cfg.Self, State: v.State.String(), Reason: v.Reason, StateSince: Duration(now.Sub(v.Since)),
		Mode: m.cfg.Mode.String(), Priority: v.Priority, Term: v.Term, Holder: v.Holder, InSync: v.InSync, Problems: v.Problems,
		Connections: v.Connections, Policy: policyStatus(v.Policy),
		Timing:   TimingStatus{Beat: Duration(t.Beat), Lease: Duration(t.Lease), Dead: Duration(t.Dead), Silence: Duration(t.Silence)},
		Rejected: map[string]uint64{}, Failover: FailoverStatus{Count: v.Count, Since: -1},
	}
	for r, n := range v.Refused {
		s.Rejected[string(r)] = n
	}
	if n := len(v.Failovers); n > 0 {
		f := v.Failovers[n-1]
		s.Failover.Last, s.Failover.Since, s.Failover.Reason = m.name(f.Holder)+" became active", Duration(now.Sub(f.At)), f.Reason
	}
	for _, f := range v.Failovers {
		s.Failover.History = append(s.Failover.History, FailoverRecord{Ago: Duration(now.Sub(f.At)), Holder: m.name(f.Holder), Term: f.Term, Reason: f.Reason})
	}
	for _, p := range v.Peers {
		w := PeerStatus{Member: p.ID, Name: p.Name, Alive: p.Alive, State: p.State.String(), Term: p.Term, Priority: p.Priority,
			Demotion: p.Demotion, InSync: p.InSync, Connections: p.Connections, LastHeard: age(p.Heard, p.LastHeard)}
		if p.LastOn >= 0 {
			w.LastOn = m.interfaceName(p.LastOn)
		}
		w.Differs, w.Policy, w.Addresses = m.differs.text(p.ID), policyStatus(p.Policy), m.addresses(p, now)
		s.Peers = append(s.Peers, w)
	}
	m.addVotes(&s, age)
	for _, d := range v.Devices {
		s.Devices = append(s.Devices, DeviceStatus{Name: d.Name, State: d.State.String(), Text: d.Text, Timeout: Duration(d.Timeout), Reported: Duration(now.Sub(d.Reported))})
	}
	m.addInterfaces(&s, v.Interfaces, now, age)
	return s
}

// addInterfaces adds to a status what is heard where: on NICs, with the addresses that are served there, and behind them on paths. views are in that order.
func (m *Member) addInterfaces(s *Status, views []cluster.InterfaceView, now cluster.Instant, age func(bool, cluster.Instant) Duration) {
	for i, p := range m.ports {
		iv := views[i]
		shared := wire.SharedMAC(p.NN, m.cfg.ClusterID)
		beat := wire.BeatMAC(p.NN, m.cfg.ClusterID)
		f := InterfaceStatus{Name: p.Name, Device: p.Device, Number: p.Number, Present: p.present, Carrier: p.up, Heartbeat: p.Heartbeat, Unmonitored: p.unmonitored,
			Sync: p.Sync, MAC: net.HardwareAddr(p.envelope.Src[:]).String(), BeatMAC: net.HardwareAddr(beat[:]).String(),
			SharedMAC: net.HardwareAddr(shared[:]).String(), Address: p.Address.String(), Sent: p.sent, Received: iv.Received,
			LastHeard: age(iv.Heard, iv.LastHeard), Problem: p.vipErr}
		if f.Problem == "" {
			f.Problem = p.duplicate(now)
		}
		if !p.present {
			f.Problem = "missing: no NIC " + p.Device
		}
		s.Interfaces = append(s.Interfaces, f)
		for _, a := range p.VIPs {
			s.VIPs = append(s.VIPs, VIPStatus{Interface: p.Name, Address: a.String(), MAC: f.SharedMAC, Device: p.Device + vip.Suffix})
		}
	}
	for i, p := range m.paths {
		iv := views[len(m.ports)+i]
		s.Paths = append(s.Paths, PathStatus{Name: p.name, Remote: p.where(), Sent: p.sent.Load(), Failed: p.failed.Load(), Received: iv.Received,
			LastHeard: age(iv.Heard, iv.LastHeard), Problem: p.problem})
	}
}

// interfaceName is the name of an interface or path, by its index in the machine.
func (m *Member) interfaceName(i int) string {
	switch {
	case i >= 0 && i < len(m.ports):
		return m.ports[i].Name
	case i >= 0 && i < len(m.ports)+len(m.paths):
		return m.paths[i-len(m.ports)].name
	}
	return ""
}

func (m *Member) name(id uint8) string {
	for _, c := range m.cfg.Members {
		if c.ID == id && c.Name != "" {
			return c.Name
		}
	}
	for _, w := range m.cfg.Witnesses {
		if w.ID == id && w.Name != "" {
			return w.Name
		}
	}
	return "member " + strconv.Itoa(int(id))
}

// residentBytes is the process's resident memory.
func residentBytes() uint64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseUint(f[1], 10, 64)
	return pages * uint64(os.Getpagesize())
}
