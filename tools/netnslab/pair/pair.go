// Package pair is a whole gateway pair in network namespaces: two members as ordinary processes of the product, a
// client, a server, and a switch whose ports can be watched and cut.
package pair

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/init/unixhttp"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// Addresses of a pair.
const (
	LANVIP = "10.1.0.1"
	WANVIP = "192.0.2.1"
	Client = "10.1.0.10"
	Server = "192.0.2.10"
)

// SharedLAN and SharedWAN are the pair's shared MACs: NN from the places below, cluster ID 7.
var (
	SharedLAN = net.HardwareAddr{0x10, 0, 0, 0, 0x0c, 7}
	SharedWAN = net.HardwareAddr{0x10, 0, 0, 0, 0x10, 7}
)

// Pair is two members A and B between a client and a server.
//
//	client ── lan bridge ── A, B ── wan bridge ── server
//	                       A ─ sync bridge ─ B
type Pair struct {
	Switch, ClientNS, ServerNS *netnslab.NS
	A, B                       *Member
	W                          *Member // witness, nil without one; see AddWitness
	C                          *Member // third member, nil without one; see AddThird
	t                          testing.TB
	binary                     string
}

// Member is one member's processes in a namespace of their own.
type Member struct {
	Name string
	NS   *netnslab.NS
	Dir  string // has node.yaml, state, run
	t    testing.TB
	bin  string
	args []string // instead of run and its directories
	cmd  *exec.Cmd
	log  *os.File
}

// Timing of a pair in the node file's syntax: long enough for a busy machine under test.
const Timing = "{beat: 20ms, lease: 150ms, dead: 250ms, silence: 600ms}"

// NewPair makes the network and the node files. Nothing runs yet.
func NewPair(t testing.TB, binary string) *Pair {
	t.Helper()
	p := &Pair{t: t, binary: binary, Switch: netnslab.New(t), ClientNS: netnslab.New(t), ServerNS: netnslab.New(t)}
	// As on a box (init/sysctl): the machine runs several had, which would wait 100 ms for each other's time slices.
	os.WriteFile("/proc/sys/kernel/sched_rr_timeslice_ms", []byte("4"), 0)
	// A bridge with this on drops heartbeats for their wrong checksums (DESIGN §11).
	exec.Command("ip", "netns", "exec", p.Switch.Name, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0").Run()
	for _, br := range []string{"lan", "wan", "sync"} {
		p.Switch.Run("ip", "link", "add", br, "type", "bridge", "mcast_snooping", "0")
		p.Switch.Run("ip", "link", "set", br, "up")
	}
	p.plug("client", p.ClientNS, "eth0", "lan")
	p.plug("server", p.ServerNS, "eth0", "wan")
	p.ClientNS.Run("ip", "addr", "add", Client+"/24", "dev", "eth0")
	p.ClientNS.Run("ip", "route", "add", "default", "via", LANVIP)
	p.ServerNS.Run("ip", "addr", "add", Server+"/24", "dev", "eth0")
	for i, m := range []**Member{&p.A, &p.B} {
		name := string(rune('a' + i))
		*m = p.member(name, "lan", "wan", "sync")
		(*m).WriteNode(NodeFile(i + 1))
	}
	return p
}

// member makes the namespace of one more member, with NICs in bridges of the same names.
func (p *Pair) member(name string, nics ...string) *Member {
	m := &Member{Name: name, NS: netnslab.New(p.t), Dir: p.t.TempDir(), t: p.t, bin: p.binary}
	for _, nic := range nics {
		p.plug(name, m.NS, nic, nic)
	}
	p.t.Cleanup(m.Kill)
	return m
}

// plug puts a NIC into a namespace and its other end into a bridge; the port is called like owner and NIC.
func (p *Pair) plug(owner string, ns *netnslab.NS, nic, bridge string) {
	port := Port(owner, nic)
	p.Switch.Run("ip", "link", "add", port, "type", "veth", "peer", "name", nic, "netns", ns.Name)
	p.Switch.Run("ip", "link", "set", port, "master", bridge, "up")
	ns.Run("ip", "link", "set", nic, "up")
}

// Plug gives a member one NIC more, in a bridge of that name, which it makes.
func (p *Pair) Plug(m *Member, nic string) {
	if p.Switch.Index(nic) == 0 {
		p.Switch.Run("ip", "link", "add", nic, "type", "bridge", "mcast_snooping", "0")
		p.Switch.Run("ip", "link", "set", nic, "up")
	}
	p.plug(m.Name, m.NS, nic, nic)
}

// Port is the switch's name for a member's (or the client's, the server's) NIC.
func Port(owner, nic string) string { return owner + "-" + nic }

// NodeFile is the node file of member 1 or 2.
func NodeFile(id int) string {
	return fmt.Sprintf(`version: 1
hostname: gw-%c
cluster:
  id: 7
  name: test
  member: %d
  key: dGVzdCBrZXkgb2YgdGhlIG5hbWVzcGFjZSBsYWIgMTI=
  members:
    - {id: 1, name: gw-a, priority: 120}
    - {id: 2, name: gw-b, priority: 100}
  timing: %s
interfaces:
  - {name: lan, zone: lan, address: 10.1.0.%d/24, vips: [%s], place: 0/3/0}
  - {name: wan, zone: wan, address: 192.0.2.%d/24, vips: [%s], place: 0/4/0}
  - {name: sync, sync: true, address: 169.254.77.%d/30, place: 0/5/0}
nat:
  - {from: [10.1.0.0/24], out: wan, to: vip, ports: random}
`, 'a'+id-1, id, Timing, id+1, LANVIP, id+1, WANVIP, id)
}

// WriteNode replaces the member's node file.
func (m *Member) WriteNode(text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.Dir, "node.yaml"), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// Run is the member's directory of sockets.
func (m *Member) Run() string { return filepath.Join(m.Dir, "run") }

// Start starts `twinkeep run`.
func (m *Member) Start() {
	m.t.Helper()
	var err error
	if m.log, err = os.OpenFile(filepath.Join(m.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600); err != nil {
		m.t.Fatal(err)
	}
	args := m.args
	if args == nil {
		args = []string{"run", "--config", m.Dir}
	}
	args = append([]string{"netns", "exec", m.NS.Name, m.bin}, args...)
	m.cmd = exec.Command("ip", append(args, "--state", filepath.Join(m.Dir, "state"), "--run", m.Run())...)
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
}

// Program sets what Start runs: another binary, with more arguments for `run`.
func (m *Member) Program(binary string, args ...string) {
	m.bin, m.args = binary, append([]string{"run", "--config", m.Dir}, args...)
}

// Wait waits until the member's processes have ended by themselves.
func (m *Member) Wait() {
	m.cmd.Wait()
	m.cmd = nil
	m.log.Close()
}

// Crash kills every process of the member, for whoever waits for their end.
func (m *Member) Crash() {
	for _, pid := range m.pids() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

// dump puts into the log where the member's processes are, in the kernel and in Go: it does not answer. They end by it.
func (m *Member) dump() {
	if m.cmd == nil {
		return
	}
	for _, pid := range m.pids() {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		fmt.Fprintf(m.log, "--- process %d: %q\n", pid, cmdline)
		for _, task := range tasks {
			stat, _ := os.ReadFile(filepath.Join(task, "stat"))
			stack, _ := os.ReadFile(filepath.Join(task, "stack"))
			fmt.Fprintf(m.log, "thread: %.100s\n%s", stat, stack)
		}
	}
	for _, pid := range m.pids() {
		syscall.Kill(pid, syscall.SIGQUIT) // Go prints its goroutines
	}
	time.Sleep(time.Second)
}

// Stop ends the member in an orderly way.
func (m *Member) Stop() {
	m.t.Helper()
	m.cmd.Process.Signal(syscall.SIGTERM)
	if err := m.cmd.Wait(); err != nil {
		m.t.Errorf("member %s: %v\n%s", m.Name, err, m.Log())
	}
	m.cmd = nil
}

// Kill kills every process of the member at once.
func (m *Member) Kill() {
	if m.cmd == nil {
		return
	}
	for _, pid := range m.pids() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	m.cmd.Wait()
	m.cmd = nil
	m.log.Close()
}

func (m *Member) pids() []int {
	out, _ := exec.Command("ip", "netns", "pids", m.NS.Name).Output()
	var pids []int
	for _, f := range strings.Fields(string(out)) {
		var pid int
		// The test's own first thread can be left in a namespace (netnslab.NS.Do).
		if _, err := fmt.Sscan(f, &pid); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Had is the pid of the member's had.
func (m *Member) Had() int {
	m.t.Helper()
	return m.Process("had")
}

// Process is the pid of one of the member's daemons.
func (m *Member) Process(name string) int {
	m.t.Helper()
	for _, pid := range m.pids() {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && strings.Contains(string(b), "\x00"+name+"\x00") {
			return pid
		}
	}
	m.t.Fatalf("member %s has no %s\n%s", m.Name, name, m.Log())
	return 0
}

// Log is what the member's processes have printed.
func (m *Member) Log() string {
	f, err := os.Open(filepath.Join(m.Dir, "log"))
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	b, _ := io.ReadAll(f)
	return string(b)
}

// Request asks one of the member's daemons.
func (m *Member) Request(method, socket, path string, reply any) error {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: unixhttp.Dial(filepath.Join(m.Run(), socket))}}
	req, err := http.NewRequest(method, "http://member"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	if reply == nil {
		return nil
	}
	return json.Unmarshal(b, reply)
}

// Status asks had; the zero Status when it does not answer.
func (m *Member) Status() (s member.Status) {
	m.Request("GET", "had.sock", "/v1/status", &s)
	return s
}

// Wait waits until cond holds, or fails the test with what it waited for and both logs.
func (p *Pair) Wait(what string, cond func() bool) {
	p.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if cond() {
			return
		}
	}
	var logs strings.Builder
	for _, m := range p.all() {
		s := m.Status()
		if s.State == "" {
			m.dump()
		}
		fmt.Fprintf(&logs, "\n--- member %s: %s, %s\n%s", m.Name, s.State, s.Reason, m.Log())
	}
	p.t.Fatalf("waited 30s for: %s%s", what, logs.String())
}

// WaitStates waits until the members are in these states.
func (p *Pair) WaitStates(a, b string) {
	p.t.Helper()
	p.Wait("states "+a+" and "+b, func() bool {
		return (a == "" || p.A.Status().State == a) && (b == "" || p.B.Status().State == b)
	})
}

// StartBoth starts both and waits until A is active and B on standby, in sync. A listens before B does, or B would have the
// role when a busy machine held A up for longer than the silence.
func (p *Pair) StartBoth() {
	p.t.Helper()
	p.A.Start()
	p.Wait("a to listen", func() bool { return p.A.Status().State != "" })
	p.B.Start()
	p.WaitStates("ACTIVE", "STANDBY")
	p.WaitSync(p.B)
}

// WaitSync waits until a member that is on standby has every connection, and the others know that.
func (p *Pair) WaitSync(m *Member) {
	p.t.Helper()
	p.Wait("member "+m.Name+" in sync", func() bool {
		log := m.Log()
		if strings.LastIndex(log, "in sync: equal") < strings.LastIndex(log, "run: statesyncd is ready") {
			return false // it has not looked since its start
		}
		s := m.Status()
		for _, other := range p.all() {
			for _, q := range other.Status().Peers {
				if q.Member == s.Member && q.Alive && !q.InSync {
					return false
				}
			}
		}
		return s.InSync
	})
}

func (p *Pair) all() []*Member {
	out := []*Member{p.A, p.B}
	for _, m := range []*Member{p.C, p.W} {
		if m != nil {
			out = append(out, m)
		}
	}
	return out
}

// Reachable reports whether the client reaches the server through the pair now.
func (p *Pair) Reachable() bool {
	return exec.Command("ip", "netns", "exec", p.ClientNS.Name, "ping", "-c1", "-W1", Server).Run() == nil
}

// Seen is one frame from a shared MAC at a switch port.
type Seen struct {
	Port string
	At   time.Time // monotonic
}

// Watch records which of the members' LAN ports frames from the shared MAC come out of, while the client asks
// for the VIP by ARP every 2 ms, so that whoever serves it has to say so. The result ends the watch, once whoever serves
// now has had the time to be seen.
func (p *Pair) Watch() (stop func() []Seen) {
	p.t.Helper()
	var seen []Seen
	var count atomic.Int64
	done := make(chan struct{})
	var wg sync.WaitGroup
	// One socket for both ports: its queue keeps the order in which the kernel saw the frames.
	all := p.Switch.RawAll()
	ports := map[int]string{}
	for _, m := range p.all() {
		port := Port(m.Name, "lan")
		if index := p.Switch.Index(port); index != 0 {
			ports[index] = port
		}
	}
	wg.Go(func() {
		defer all.Close()
		buf := make([]byte, 2048)
		for {
			n, index, err := all.Receive(buf)
			select {
			case <-done:
				return
			default:
			}
			if port := ports[index]; err == nil && port != "" && n >= 12 && string(buf[6:12]) == string(SharedLAN) {
				seen = append(seen, Seen{port, time.Now()})
				count.Add(1)
			}
		}
	})
	ask := p.ClientNS.Raw("eth0")
	wg.Go(func() {
		defer ask.Close()
		frame := ARPRequest(p.ClientNS.MAC("eth0"), net.ParseIP(Client).To4(), net.ParseIP(LANVIP).To4())
		t := time.NewTicker(2 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				ask.WriteTo(frame, netnslab.To(net.HardwareAddr{255, 255, 255, 255, 255, 255}))
			}
		}
	})
	for end := time.Now().Add(500 * time.Millisecond); count.Load() == 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond) // who serves at the beginning has to be seen before anything happens
	}
	return func() []Seen {
		before := count.Load()
		for end := time.Now().Add(time.Second); count.Load() < before+10 && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		close(done)
		wg.Wait()
		return seen
	}
}

// Owners condenses what was seen into the order in which ports served the shared MAC, e.g. [a-lan b-lan]. A
// port that comes back after another had served shows up again.
func Owners(seen []Seen) []string {
	var out []string
	for _, s := range seen {
		if len(out) == 0 || out[len(out)-1] != s.Port {
			out = append(out, s.Port)
		}
	}
	return out
}

// ARPRequest asks who has target (RFC 826).
func ARPRequest(mac net.HardwareAddr, sender, target net.IP) []byte {
	f := []byte{255, 255, 255, 255, 255, 255}
	f = append(f, mac...)
	f = append(f, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1)
	f = append(f, mac...)
	f = append(f, sender...)
	f = append(f, 0, 0, 0, 0, 0, 0)
	return append(f, target...)
}
