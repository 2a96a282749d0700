package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"github.com/twinkeep/twinkeep/ha/wire"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

var binary string

// TestMain builds the product once; the members under test are real processes of it.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "twinkeep-test")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "twinkeep")
		build := exec.Command("go", "build", "-o", binary, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

func started(t *testing.T) *pair.Pair {
	t.Helper()
	p := pair.NewPair(t, binary)
	p.StartBoth()
	p.Wait("traffic through the pair", p.Reachable)
	return p
}

// onlyOwners fails unless the shared MAC was served by exactly these ports, one after the other, never by two at
// once and never by the old one again.
func onlyOwners(t *testing.T, seen []pair.Seen, want ...string) {
	t.Helper()
	for i := range want {
		want[i] = pair.Port(want[i], "lan")
	}
	if got := pair.Owners(seen); !slices.Equal(got, want) {
		t.Errorf("the shared MAC was served by %v, want %v", got, want)
	}
}

func TestForwardingWithVIPAsSource(t *testing.T) {
	p := started(t)
	server := p.ServerNS.Raw("eth0")
	defer server.Close()
	if !p.Reachable() {
		t.Fatal("no traffic")
	}
	buf := make([]byte, 2048)
	server.SetReadDeadline(time.Now().Add(2 * time.Second))
	for {
		n, _, err := server.ReadFrom(buf)
		if err != nil {
			t.Fatalf("the server saw no ping: %v", err)
		}
		if n > 34 && buf[12] == 8 && buf[13] == 0 && buf[23] == 1 && net.IP(buf[30:34]).String() == pair.Server {
			if src := net.IP(buf[26:30]).String(); src != pair.WANVIP {
				t.Errorf("the server sees %s as source, want the VIP %s", src, pair.WANVIP)
			}
			return
		}
	}
}

func TestEveryProcessOfTheActiveKilled(t *testing.T) {
	p := started(t)
	stop := p.Watch()
	time.Sleep(200 * time.Millisecond)
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	p.Wait("traffic after the takeover", p.Reachable)
	time.Sleep(200 * time.Millisecond)
	onlyOwners(t, stop(), "a", "b")
	// The returned member stays on standby, silent.
	stop = p.Watch()
	p.A.Start()
	p.WaitStates("STANDBY", "ACTIVE")
	time.Sleep(200 * time.Millisecond)
	onlyOwners(t, stop(), "b")
	if s := p.A.Status(); s.Term < 2 {
		t.Errorf("term %d after a takeover", s.Term)
	}
}

func TestHadKilledSupervisorSaysFarewell(t *testing.T) {
	p := started(t)
	stop := p.Watch()
	time.Sleep(100 * time.Millisecond)
	syscall.Kill(p.A.Had(), syscall.SIGKILL)
	p.WaitStates("STANDBY", "ACTIVE")
	p.Wait("traffic after the takeover", p.Reachable)
	onlyOwners(t, stop(), "a", "b")
	p.Wait("the event", func() bool { return strings.Contains(p.B.Log(), "said farewell") })
}

// TestPausedActive is fault 1 of reference/peers.md: never two owners at any instant on the wire.
func TestPausedActive(t *testing.T) {
	const dead = 250 * time.Millisecond
	for _, factor := range []float64{0.5, 1, 2, 10} {
		t.Run(fmt.Sprintf("%v dead times", factor), func(t *testing.T) {
			p := started(t)
			stop := p.Watch()
			p.Wait("traffic before the pause", p.Reachable) // so that the capture has seen its owner
			had := p.A.Had()
			syscall.Kill(had, syscall.SIGSTOP)
			time.Sleep(time.Duration(factor * float64(dead)))
			syscall.Kill(had, syscall.SIGCONT)
			p.Wait("one active member", func() bool {
				a, b := p.A.Status(), p.B.Status()
				return (a.State == "ACTIVE") != (b.State == "ACTIVE") && (a.State == "STANDBY") != (b.State == "STANDBY")
			})
			time.Sleep(300 * time.Millisecond)
			switch owners := pair.Owners(stop()); {
			case factor > 1:
				if !slices.Equal(owners, []string{"a-lan", "b-lan"}) {
					t.Errorf("owners %v", owners)
				}
			case len(owners) > 2: // it may keep or lose the role, but nobody comes back
				t.Errorf("owners %v", owners)
			}
		})
	}
}

func TestCarrierLossOfTheActive(t *testing.T) {
	p := started(t)
	p.Switch.Run("ip", "link", "set", "a-lan", "down")
	p.WaitStates("DOWN", "ACTIVE")
	p.Wait("traffic after the takeover", p.Reachable)
	if s := p.A.Status(); len(s.Problems) != 1 || s.Problems[0] != "interface lan: no carrier" {
		t.Errorf("problems %v", s.Problems)
	}
	p.Switch.Run("ip", "link", "set", "a-lan", "up")
	p.WaitStates("STANDBY", "ACTIVE") // active-up: the role stays
}

func TestOperatorMovesTheRole(t *testing.T) {
	p := started(t)
	stop := p.Watch()
	time.Sleep(100 * time.Millisecond)
	if err := p.A.Request("POST", "had.sock", "/v1/deactivate", nil); err != nil {
		t.Fatal(err)
	}
	p.WaitStates("STANDBY", "ACTIVE")
	time.Sleep(100 * time.Millisecond)
	if err := p.A.Request("POST", "had.sock", "/v1/activate", nil); err != nil {
		t.Fatal(err)
	}
	p.WaitStates("ACTIVE", "STANDBY")
	time.Sleep(100 * time.Millisecond)
	onlyOwners(t, stop(), "a", "b", "a")
	p.Wait("the event", func() bool { return strings.Contains(p.A.Log(), "Master role reclaimed by expected master") })
}

func TestOrderlyStop(t *testing.T) {
	p := started(t)
	p.A.Stop()
	p.WaitStates("", "ACTIVE")
	p.Wait("the event", func() bool { return strings.Contains(p.B.Log(), "said farewell") })
	// The addresses are still programmed, the gate is shut.
	if out := p.A.NS.Run("ip", "addr", "show", "lan-vip"); !strings.Contains(out, pair.LANVIP) {
		t.Errorf("the VIP is gone:\n%s", out)
	}
}

func TestBadNodeFile(t *testing.T) {
	p := pair.NewPair(t, binary)
	good := pair.NodeFile(1)
	p.A.WriteNode(strings.Replace(good, "priority: 120", "prioritty: 120", 1))
	p.A.Start()
	p.B.Start()
	p.WaitStates("DOWN", "ACTIVE")
	s := p.A.Status()
	if !strings.Contains(s.ConfigError, "node.yaml:9:") || !strings.Contains(s.ConfigError, "prioritty") {
		t.Errorf("the error does not say where and what: %s", s.ConfigError)
	}
	if s.Gate.Open {
		t.Error("gate open without a node file")
	}
	p.A.WriteNode(good)
	for _, socket := range []string{"gatewayd.sock", "had.sock"} {
		if err := p.A.Request("POST", socket, "/v1/reload", nil); err != nil {
			t.Fatal(err)
		}
	}
	p.WaitStates("STANDBY", "ACTIVE")
}

func TestMissingNIC(t *testing.T) {
	p := pair.NewPair(t, binary)
	p.A.NS.Run("ip", "link", "del", "sync")
	p.A.Start()
	p.B.Start()
	p.WaitStates("DOWN", "ACTIVE") // the peer is fitter
	s := p.A.Status()
	if len(s.Problems) != 1 || s.Problems[0] != "interface sync: missing" {
		t.Errorf("problems %v", s.Problems)
	}
	p.Wait("traffic in spite of the missing NIC", p.Reachable)
}

// TestBadHeartbeats: counted by reason, never a state change.
func TestBadHeartbeats(t *testing.T) {
	p := started(t)
	before := p.B.Status()
	conn := p.Switch.Raw("b-lan")
	defer conn.Close()
	key, err := wire.NewKey([]byte("test key of the namespace lab 12"))
	if err != nil {
		t.Fatal(err)
	}
	env := wire.Envelope{Dst: wire.BeatMAC(0x0c, 7), Src: wire.MAC{2, 0, 0, 0, 0, 9}, SrcIP: netip.MustParseAddr("10.1.0.2"), DstIP: netip.MustParseAddr("10.1.0.255")}
	beat := wire.Beat{Version: 1, Cluster: 7, Member: 1, State: wire.Down, Interface: 1, NN: 0x0c, Nonce: 99, Seq: wire.FinalSeq, Flags: wire.Farewell, Term: 1 << 60}
	frame := func(b wire.Beat) []byte { return wire.AppendFrame(nil, env, key.Seal(b.Append(nil))) }
	foreign, unknown, mine := beat, beat, beat
	foreign.Cluster, unknown.Member, mine.Member = 8, 5, 2
	ttl, tag := frame(beat), frame(beat)
	ttl[22] = 64
	tag[len(tag)-1] ^= 1
	oversized := wire.AppendFrame(nil, env, make([]byte, wire.MaxPayload+1))
	frames := map[string][]byte{
		"ttl_too_low": ttl, "bad_tag": tag, "replay": frame(beat), "foreign_cluster": frame(foreign), "unknown_member": frame(unknown),
		"heartbeat_from_myself": frame(mine), "truncated": frame(beat)[:60], "oversized": oversized,
	}
	for range 50 {
		for _, f := range frames {
			if _, err := conn.WriteTo(f, &packet.Addr{HardwareAddr: env.Dst[:]}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Millisecond)
	}
	p.Wait("every reason counted", func() bool {
		r := p.B.Status().Rejected
		for reason := range frames {
			if r[reason] < 50 {
				return false
			}
		}
		return true
	})
	after := p.B.Status()
	if after.State != before.State || after.Term != before.Term || after.Failover.Count != before.Failover.Count {
		t.Errorf("bad heartbeats changed the member: %s term %d -> %s term %d", before.State, before.Term, after.State, after.Term)
	}
}

// TestFirewallTroubleDoesNotTouchRoles is fault 3 of reference/peers.md: a full connection table and a ruleset that
// is replaced all the time.
func TestFirewallTroubleDoesNotTouchRoles(t *testing.T) {
	p := started(t)
	for _, m := range []*pair.Member{p.A, p.B} {
		m.NS.Run("nft", "add", "table", "inet", "noise")
	}
	count := p.B.Status().Failover.Count
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		for _, m := range []*pair.Member{p.A, p.B} {
			m.NS.Run("nft", "delete table inet noise; add table inet noise; add chain inet noise c { type filter hook output priority 0; policy drop; }")
		}
	}
	if a, b := p.A.Status(), p.B.Status(); a.State != "ACTIVE" || b.State != "STANDBY" || b.Failover.Count != count {
		t.Errorf("states %s and %s, %d failovers", a.State, b.State, b.Failover.Count-count)
	}
}

// TestGateFlushedByHand: somebody runs `nft flush ruleset`. The standby must not start to answer for good.
func TestGateFlushedByHand(t *testing.T) {
	p := started(t)
	p.B.NS.Run("nft", "delete", "table", "netdev", "twinkeep_gate")
	p.Wait("the gate is back", func() bool {
		return exec.Command("ip", "netns", "exec", p.B.NS.Name, "nft", "list", "table", "netdev", "twinkeep_gate").Run() == nil
	})
	p.WaitStates("ACTIVE", "STANDBY")
	stop := p.Watch()
	time.Sleep(300 * time.Millisecond)
	onlyOwners(t, stop(), "a")
}

// TestFlood: a stranger on the LAN sends heartbeats with a bad tag as fast as it can. Roles do not change, and most of
// the flood never reaches had.
func TestFlood(t *testing.T) {
	p := started(t)
	conn := p.Switch.Raw("a-lan")
	defer conn.Close()
	mac := wire.BeatMAC(0x0c, 7)
	frame := wire.AppendFrame(nil, wire.Envelope{Dst: mac, Src: wire.MAC{2, 0, 0, 0, 0, 9}, SrcIP: netip.MustParseAddr("10.1.0.66"), DstIP: netip.MustParseAddr("10.1.0.255")}, make([]byte, 110))
	before, sent := p.A.Status(), 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		for range 100 {
			if _, err := conn.WriteTo(frame, &packet.Addr{HardwareAddr: mac[:]}); err == nil {
				sent++
			}
		}
	}
	a, b := p.A.Status(), p.B.Status()
	if a.State != "ACTIVE" || b.State != "STANDBY" || a.Failover.Count != before.Failover.Count || a.Term != before.Term {
		t.Errorf("after %d frames: a %s term %d, b %s", sent, a.State, a.Term, b.State)
	}
	seen := a.Rejected["bad_tag"] - before.Rejected["bad_tag"]
	t.Logf("%d frames sent, %d looked at", sent, seen)
	if sent > 100000 && seen > uint64(sent)/2 {
		t.Errorf("had looked at %d of %d frames", seen, sent)
	}
}
