package statesyncd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/ha/statesync/ctnl"
	"github.com/twinkeep/twinkeep/init/unixhttp"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// asDaemon makes the test binary run a daemon: the directory is in the environment.
const asDaemon = "TWINKEEP_TEST_STATESYNCD"

func TestMain(m *testing.M) {
	dir := os.Getenv(asDaemon)
	if dir == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	o := Options{ConfigDir: dir, RunDir: dir, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	fmt.Sscan(os.Getenv("EVENT_BUFFER"), &o.EventBuffer)
	if err := Run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// lab is a cluster of members that have state sync, and a stand-in for had.
type lab struct {
	t       testing.TB
	sw      *netnslab.NS
	members []*labMember
}

// labMember is one of them, with a table to play the packets with.
type labMember struct {
	lab   *lab
	id    int
	ns    *netnslab.NS
	dir   string
	env   []string
	cmd   *exec.Cmd
	log   *bytes.Buffer
	table *ctnl.Table

	mu      sync.Mutex
	status  member.Status
	reports []api.SyncReport
}

const labKey = "dGVzdCBrZXkgb2YgdGhlIG5hbWVzcGFjZSBsYWIgMTI="

// newLab makes n members; none runs yet. Each has NICs sync and lan, each in a bridge.
func newLab(t testing.TB, n int) *lab {
	t.Helper()
	l := &lab{t: t, sw: netnslab.New(t)}
	exec.Command("ip", "netns", "exec", l.sw.Name, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0").Run()
	for _, br := range []string{"sync", "lan"} {
		l.sw.Run("ip", "link", "add", br, "type", "bridge", "mcast_snooping", "0")
		l.sw.Run("ip", "link", "set", br, "up")
	}
	for i := range n {
		m := &labMember{lab: l, id: i + 1, ns: netnslab.New(t), dir: t.TempDir(), log: new(bytes.Buffer)}
		for _, nic := range []string{"sync", "lan"} {
			port := fmt.Sprintf("%s%d", nic, m.id)
			l.sw.Run("ip", "link", "add", port, "type", "veth", "peer", "name", nic, "netns", m.ns.Name)
			l.sw.Run("ip", "link", "set", port, "master", nic, "up")
			m.ns.IP("link set dev " + nic + " up")
		}
		m.ns.IP(fmt.Sprintf("addr add 169.254.77.%d/24 dev sync", m.id))
		m.ns.IP(fmt.Sprintf("addr add 10.9.0.%d/24 dev lan", m.id))
		// As on a member that has run before: the kernel tells of connections that begin while nobody listens, too.
		m.ns.Run("sysctl", "-qw", "net.netfilter.nf_conntrack_events=1")
		m.writeNode(n, labKey)
		m.setRole("STANDBY", 1, 0)
		m.serveHad()
		m.ns.Try(func() (err error) { m.table, err = ctnl.OpenTable(); return err })
		t.Cleanup(func() { m.table.Close() })
		t.Cleanup(func() {
			m.kill()
			if log := m.logged(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic:") {
				t.Errorf("the daemon of member %d:\n%s", m.id, log)
			}
		})
		l.members = append(l.members, m)
	}
	return l
}

func (m *labMember) writeNode(n int, key string) {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nhostname: gw-%d\ncluster:\n  id: 9\n  name: test\n  member: %d\n  key: %s\n  members:\n", m.id, m.id, key)
	for i := range n {
		fmt.Fprintf(&b, "    - {id: %d, name: gw-%d, priority: %d}\n", i+1, i+1, 100-i)
	}
	fmt.Fprintf(&b, "interfaces:\n  - {name: lan, zone: lan, address: 10.9.0.%d/24, vips: [10.9.0.100], place: 0/3/0}\n  - {name: sync, sync: true, address: 169.254.77.%d/24, place: 0/5/0}\n", m.id, m.id)
	if err := os.WriteFile(filepath.Join(m.dir, "node.yaml"), []byte(b.String()), 0o600); err != nil {
		m.lab.t.Fatal(err)
	}
}

// serveHad is had as far as state sync sees it.
func (m *labMember) serveHad() {
	t := m.lab.t
	ln, err := unixhttp.Listen(filepath.Join(m.dir, api.HadSocket))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		m.mu.Lock()
		defer m.mu.Unlock()
		api.Reply(w, m.status, nil)
	})
	mux.HandleFunc("POST /v1/sync", func(w http.ResponseWriter, r *http.Request) {
		var s api.SyncReport
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			t.Error(err)
		}
		m.mu.Lock()
		m.reports = append(m.reports, s)
		m.mu.Unlock()
		api.Reply(w, api.Message{}, nil)
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- unixhttp.Serve(ctx, ln, mux) }()
	t.Cleanup(func() { cancel(); <-done })
}

// setRole says what had says.
func (m *labMember) setRole(state string, term uint64, holder int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status = member.Status{Member: uint8(m.id), State: state, Term: term, Holder: uint8(holder)}
}

// holder gives the role to one member.
func (l *lab) holder(id int, term uint64) {
	for _, m := range l.members {
		state := "STANDBY"
		if m.id == id {
			state = "ACTIVE"
		}
		m.setRole(state, term, id)
	}
}

func (m *labMember) start() {
	m.lab.t.Helper()
	m.cmd = exec.Command("ip", "netns", "exec", m.ns.Name, os.Args[0])
	m.cmd.Env = append(append(os.Environ(), asDaemon+"="+m.dir), m.env...)
	f, err := os.OpenFile(filepath.Join(m.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.lab.t.Fatal(err)
	}
	defer f.Close()
	m.cmd.Stdout, m.cmd.Stderr = f, f
	if err := m.cmd.Start(); err != nil {
		m.lab.t.Fatal(err)
	}
}

func (m *labMember) kill() {
	if m.cmd != nil {
		m.cmd.Process.Kill()
		m.cmd.Wait()
		m.cmd = nil
	}
}

func (m *labMember) logged() string {
	b, _ := os.ReadFile(filepath.Join(m.dir, "log"))
	return string(b)
}

func (m *labMember) client() *api.Client { return api.NewClient(m.dir) }

func (m *labMember) sync() api.SyncStatus {
	s, _ := m.client().Sync(context.Background())
	return s
}

// wait waits until cond holds.
func (l *lab) wait(what string, cond func() bool) {
	l.t.Helper()
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if cond() {
			return
		}
	}
	var b strings.Builder
	for _, m := range l.members {
		s, _ := json.MarshalIndent(m.sync(), "", " ")
		fmt.Fprintf(&b, "--- member %d: %s\n%s\n", m.id, s, m.logged())
	}
	l.t.Fatalf("waited for: %s\n%s", what, b.String())
}

// started is a lab whose first member holds the role and whose others are in sync.
func started(t testing.TB, n int) *lab {
	t.Helper()
	l := newLab(t, n)
	l.holder(1, 1)
	for _, m := range l.members {
		m.start()
	}
	l.waitSync()
	return l
}

func (l *lab) waitSync() {
	l.t.Helper()
	l.wait("all members to be in sync", func() bool {
		for _, m := range l.members {
			if m.cmd != nil && !m.sync().InSync {
				return false
			}
		}
		return true
	})
}

// play makes the kernel's table of a member change as packets would.
func (m *labMember) play(ops ...statesync.KernelOp) {
	m.lab.t.Helper()
	for i, err := range m.table.Apply(ops) {
		if err != nil {
			m.lab.t.Fatalf("play %+v: %v", ops[i], err)
		}
	}
}

// dump reads a member's table: what is replicated of it, by original tuple.
func (m *labMember) dump() map[statesync.Tuple]statesync.Flow {
	m.lab.t.Helper()
	out := map[statesync.Tuple]statesync.Flow{}
	private := statesync.Local{}
	for _, o := range m.lab.members {
		private.Add(netip.MustParseAddr(fmt.Sprintf("10.9.0.%d", o.id)))
		private.Add(netip.MustParseAddr(fmt.Sprintf("169.254.77.%d", o.id)))
	}
	var entries []statesync.Event
	m.ns.Try(func() error {
		d, err := ctnl.OpenDump(false)
		if err != nil {
			return err
		}
		defer d.Close()
		for done := false; !done; {
			if entries, done, err = d.Next(entries); err != nil {
				return err
			}
		}
		return nil
	})
	for _, e := range entries {
		if private.Carries(&e.Flow) {
			out[e.Flow.Orig] = e.Flow
		}
	}
	return out
}

// equal reports whether two tables agree in what must survive a takeover.
func equal(a, b map[statesync.Tuple]statesync.Flow) (bool, string) {
	if len(a) != len(b) {
		return false, fmt.Sprintf("%d and %d entries", len(a), len(b))
	}
	for k, f := range a {
		g, ok := b[k]
		const status = statesync.StatusSeenReply | statesync.StatusAssured
		if !ok || f.Reply != g.Reply || f.TCP.State != g.TCP.State || f.Mark != g.Mark || f.Labels != g.Labels || f.Status&status != g.Status&status || f.Helper != g.Helper {
			return false, fmt.Sprintf("%+v\n%+v", f, g)
		}
	}
	return true, ""
}

// waitEqual waits until all running members have the table of the first.
func (l *lab) waitEqual(first *labMember) {
	l.t.Helper()
	why := ""
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		all := true
		want := first.dump()
		for _, m := range l.members {
			if m.cmd != nil && m != first {
				var ok bool
				if ok, why = equal(want, m.dump()); !ok {
					all = false
				}
			}
		}
		if all {
			return
		}
	}
	l.wait("equal tables: "+why, func() bool { return false })
}

// flow is the i-th of many: from many clients and ports, translated to one address.
func flow(i int) statesync.Flow {
	f := statesync.Flow{Family: statesync.Inet, Has: statesync.HasTimeout | statesync.HasTCP, Timeout: 600, Status: statesync.StatusSeenReply | statesync.StatusAssured | statesync.StatusConfirmed}
	f.TCP.State = 3
	src, _ := statesync.AddrOf(netip.AddrFrom4([4]byte{10, 1, byte(i / 60000), byte(10 + i%200)}))
	dst, _ := statesync.AddrOf(netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + i/50000)}))
	vip, _ := statesync.AddrOf(netip.MustParseAddr("192.0.2.1"))
	f.Orig = statesync.Tuple{Proto: statesync.TCP, Src: src, SrcPort: uint16(1024 + i%50000), Dst: dst, DstPort: 443}
	f.Reply = statesync.Tuple{Proto: statesync.TCP, Src: dst, SrcPort: 443, Dst: vip, DstPort: uint16(1024 + (i+777)%50000)}
	return f
}

func create(f statesync.Flow) statesync.KernelOp {
	return statesync.KernelOp{Kind: statesync.KernelCreate, Flow: f}
}

func flows(from, to int) (ops []statesync.KernelOp) {
	for i := from; i < to; i++ {
		ops = append(ops, create(flow(i)))
	}
	return ops
}
