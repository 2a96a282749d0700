package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// TestPeerQuestions: without a policy, too, a member asks another one about its box, over the sync interface and, when
// that is cut, over the LAN.
func TestPeerQuestions(t *testing.T) {
	p := started(t)
	c := api.NewClient(p.A.Run())
	for _, way := range []string{"sync", "lan"} {
		if h, err := c.PeerHardware(t.Context(), "gw-b"); err != nil || h.Cores == 0 {
			t.Errorf("by %s: %+v, %v", way, h, err)
		}
		if s, err := c.PeerStatus(t.Context(), "2"); err != nil || s.Member != 2 || s.State != "STANDBY" {
			t.Errorf("by %s: member %d, %s, %v", way, s.Member, s.State, err)
		}
		p.Switch.Run("ip", "link", "set", "sync", "down")
	}
	var e *api.Error
	if _, err := c.PeerHardware(t.Context(), "gw-z"); !errors.As(err, &e) || e.Status != 404 {
		t.Errorf("a member that is not: %v", err)
	}
	p.B.Kill()
	if _, err := c.PeerHardware(t.Context(), "gw-b"); !errors.As(err, &e) || e.Status != 502 || !strings.Contains(e.Message, "unreachable") {
		t.Errorf("a member that is dead: %v", err)
	}
}

// verifiable starts a pair with a static route, and traffic through it until the test ends.
func verifiable(t *testing.T) *pair.Pair {
	t.Helper()
	p := pair.NewPair(t, binary)
	for i, m := range []*pair.Member{p.A, p.B} {
		m.WriteNode(pair.NodeFile(i+1) + "routes:\n  - {to: 10.9.0.0/16, via: 10.1.0.254}\n  - {to: 0.0.0.0/0, via: " + pair.Server + "}\n")
	}
	p.StartBoth()
	p.Wait("traffic through the pair", p.Reachable)
	stream(t, p)
	return p
}

// stream sends traffic through the cluster until the test ends.
func stream(t *testing.T, p *pair.Pair) {
	t.Helper()
	ping := exec.Command("ip", "netns", "exec", p.ClientNS.Name, "ping", "-q", "-i0.02", "-s400", pair.Server)
	if err := ping.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ping.Process.Kill()
		ping.Wait()
	})
}

// counted waits until gatewayd of a member has so much of the traffic of now that it can be compared.
func counted(p *pair.Pair, m *pair.Member) {
	c := api.NewClient(m.Run())
	p.Wait("traffic counted at "+m.Name, func() bool {
		t, err := c.Traffic(context.Background(), 6*time.Second)
		if err != nil || time.Duration(t.Volume.Over) < 4*time.Second {
			return false
		}
		n := 0
		for _, f := range t.Volume.Interfaces {
			if f.Cluster.Packets > 30 {
				n++
			}
		}
		v, err := c.CompareTraffic(context.Background(), 0)
		return n == 2 && err == nil && v.Result != api.VerifyUnknown
	})
}

// verified asks a member to verify the cluster, and gives the steps by their names.
func verified(t *testing.T, m *pair.Member, want api.VerifyResult) map[string]api.VerifyStep {
	t.Helper()
	out := operate(t, m, want == api.VerifyOK, "cluster", "verify", "--json", "--for", "2s")
	var v api.Verification
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	steps := map[string]api.VerifyStep{}
	for _, s := range v.Steps {
		steps[s.Name] = s
	}
	if v.Result != want {
		t.Errorf("verified by %s: %s, want %s\n%s", m.Name, v.Result, want, operate(t, m, want == api.VerifyOK, "cluster", "verify", "--for", "2s"))
	}
	return steps
}

// wantStep fails unless a step has that result, and says that.
func wantStep(t *testing.T, s api.VerifyStep, want api.VerifyResult, text string) {
	t.Helper()
	if all := strings.Join(append(s.Evidence, s.Next...), "\n"); s.Result != want || !strings.Contains(all, text) {
		t.Errorf("%s: %s, want %s with %q:\n%s", s.Name, s.Result, want, text, all)
	}
}

// available is which routes of the cluster are available at a member, and how many it has.
func available(t *testing.T, m *pair.Member) (there, all int) {
	t.Helper()
	table, err := api.NewClient(m.Run()).Routes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range table.Routes {
		if r.Fault {
			t.Errorf("%s: fault of %s: %s", m.Name, r.Destination, r.Why)
		}
		if r.Owner == table.Master {
			if all++; r.Available {
				there++
			}
		}
	}
	return there, all
}

// TestVerify: all is well before and after a failover, the routes of the cluster are available where the role is, and nowhere
// else, without a change in the kernel.
func TestVerify(t *testing.T) {
	p := verifiable(t)
	check := func(master, other *pair.Member) {
		t.Helper()
		if there, all := available(t, master); there != all || all != 6 {
			t.Errorf("%d of %d routes are available at the master %s", there, all, master.Name)
		}
		if there, all := available(t, other); there != 0 || all != 6 {
			t.Errorf("%d of %d routes are available at %s", there, all, other.Name)
		}
	}
	kernel := func(m *pair.Member) string { return m.NS.Run("ip", "route", "show", "table", "all") }
	check(p.A, p.B)
	counted(p, p.A)
	for _, m := range []*pair.Member{p.A, p.B} {
		steps := verified(t, m, api.VerifyOK)
		wantStep(t, steps["one master"], api.VerifyOK, "gw-a: ACTIVE")
		wantStep(t, steps["virtual route table"], api.VerifyOK, "management of others false, as it must be: 10.1.0.3 (gw-b)")
		wantStep(t, steps["volume"], api.VerifySkipped, "nothing to compare")
	}
	a, b := kernel(p.A), kernel(p.B)
	operate(t, p.A, true, "cluster", "failover")
	p.WaitStates("STANDBY", "ACTIVE")
	check(p.B, p.A)
	if kernel(p.A) != a || kernel(p.B) != b {
		t.Errorf("the failover has changed the kernel's routes:\n%s\n%s", kernel(p.A), kernel(p.B))
	}
	counted(p, p.B)
	for _, m := range []*pair.Member{p.A, p.B} {
		steps := verified(t, m, api.VerifyOK)
		wantStep(t, steps["one master"], api.VerifyOK, "gw-b became active")
		wantStep(t, steps["NAT entries"], api.VerifyOK, "gw-b: 1 entry of NAT, loaded")
		wantStep(t, steps["volume"], api.VerifyOK, "gw-b now, against gw-a, before it lost the role, as it says now")
	}
	operate(t, p.B, true, "cluster", "failover")
	p.WaitStates("ACTIVE", "STANDBY")
	check(p.A, p.B)
	counted(p, p.A)
	wantStep(t, verified(t, p.A, api.VerifyOK)["volume"], api.VerifyOK, "gw-a now, against gw-a itself")
	t.Log(operate(t, p.A, true, "cluster", "verify"), operate(t, p.B, true, "routes"), operate(t, p.A, true, "traffic", "compare"))
}

// TestVerifyAfterDeath: what a member carried is known although it is dead; what only it could say is unknown, and no success.
func TestVerifyAfterDeath(t *testing.T) {
	p := verifiable(t)
	c := api.NewClient(p.B.Run())
	counted(p, p.A)
	time.Sleep(8 * time.Second) // B asks for the volume now and then
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	counted(p, p.B)
	steps := verified(t, p.B, api.VerifyUnknown)
	wantStep(t, steps["one master"], api.VerifyUnknown, "gw-a cannot be asked")
	wantStep(t, steps["traffic"], api.VerifyUnknown, "gw-a cannot be asked")
	wantStep(t, steps["volume"], api.VerifyOK, "gw-b now, against gw-a, as it said")
	if v, err := c.CompareTraffic(t.Context(), 0); err != nil || v.PacketRatio < 0.5 || v.PacketRatio > 2 {
		t.Errorf("ratio %.2f, %v", v.PacketRatio, err)
	}
}

// TestVerifyFails: a switch that sends the frames for the VIPs to the wrong member, and routes that are gone.
func TestVerifyFails(t *testing.T) {
	p := verifiable(t)
	counted(p, p.A)
	operate(t, p.A, true, "cluster", "failover")
	p.WaitStates("STANDBY", "ACTIVE")
	counted(p, p.B)
	p.A.NS.Run("ip", "route", "del", "10.9.0.0/16")
	p.B.NS.Run("ip", "route", "del", "default")
	p.A.NS.Run("nft", "flush", "chain", "inet", "twinkeep", "postrouting")
	steps := verified(t, p.A, api.VerifyFailed)
	wantStep(t, steps["virtual route table"], api.VerifyFailed, "gw-a: static 10.9.0.0/16 would not be available: it is not in the kernel")
	wantStep(t, steps["virtual route table"], api.VerifyFailed, "gw-b: default 0.0.0.0/0 is not available: it is not in the kernel")
	wantStep(t, steps["NAT entries"], api.VerifyFailed, "gw-a: the kernel has not got chain postrouting")
	wantStep(t, steps["traffic"], api.VerifyOK, "gw-b lan")
	p.A.NS.Run("ip", "route", "add", "10.9.0.0/16", "via", "10.1.0.254", "proto", "0x54")
	p.B.NS.Run("ip", "route", "add", "default", "via", pair.Server, "proto", "0x54")
	wantStep(t, verified(t, p.A, api.VerifyFailed)["virtual route table"], api.VerifyOK, "")

	p.Switch.Run("bridge", "fdb", "replace", pair.SharedLAN.String(), "dev", pair.Port("a", "lan"), "master", "static", "sticky")
	time.Sleep(6 * time.Second)
	steps = verified(t, p.B, api.VerifyFailed)
	wantStep(t, steps["traffic"], api.VerifyFailed, "the switch still sends frames for the VIPs to gw-a")
	t.Log(steps["traffic"], steps["volume"])
}

// TestRoutesFollowTheRole: at no time are the routes of the cluster available at two members, and they are at the new one when it
// serves.
func TestRoutesFollowTheRole(t *testing.T) {
	p := started(t)
	done := make(chan struct{})
	var left, came time.Time
	go func() {
		defer close(done)
		for end := time.Now().Add(20 * time.Second); came.IsZero() && time.Now().Before(end); {
			b, all := available(t, p.B) // first: what it has, the other has lost by now
			a, _ := available(t, p.A)
			if a < all && left.IsZero() {
				left = time.Now()
			}
			if b == all {
				came = time.Now()
			}
			if a > 0 && b > 0 {
				t.Errorf("%d routes are available at gw-a and %d at gw-b", a, b)
			}
		}
	}()
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	operate(t, p.A, true, "cluster", "failover")
	<-done
	if left.IsZero() || came.IsZero() {
		t.Fatalf("left gw-a: %v, came to gw-b: %v", !left.IsZero(), !came.IsZero())
	}
	t.Logf("seen %v and %v after the command began", left.Sub(began).Round(time.Millisecond), came.Sub(began).Round(time.Millisecond))
}

// TestVerifyWithPolicy: a pair that runs by a policy; and what goes the fast path is counted, too.
func TestVerifyWithPolicy(t *testing.T) {
	p := installed(t)
	if out := p.A.NS.Run("nft", "list", "flowtables"); !strings.Contains(out, "twinkeep") {
		t.Logf("this kernel has no flowtables: %s", out)
	}
	var ln net.Listener
	p.ServerNS.Try(func() (err error) { ln, err = net.Listen("tcp4", pair.Server+":8080"); return err })
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
	var conn net.Conn
	p.ClientNS.Try(func() (err error) {
		conn, err = net.DialTimeout("tcp4", pair.Server+":8080", 5*time.Second)
		return err
	})
	defer conn.Close()
	const rate = 1 << 20 // bytes a second, in small pieces
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for t := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-stop:
				t.Stop()
				return
			case <-t.C:
				conn.Write(make([]byte, rate/100))
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	counted(p.Pair, p.A)
	steps := verified(t, p.A, api.VerifyOK)
	wantStep(t, steps["virtual route table"], api.VerifyOK, "10.1.0.3 (gw-b), 192.0.2.3 (gw-b)")
	v, err := api.NewClient(p.A.Run()).Traffic(t.Context(), 6*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range v.Volume.Interfaces {
		if f.Interface == "lan" && (f.Cluster.Bytes < 0.8*rate || f.Cluster.Bytes > 2*rate) {
			t.Errorf("%.0f bytes/s counted of %d", f.Cluster.Bytes, rate)
		}
	}
	t.Logf("%+v", v.Volume)
	operate(t, p.A, true, "cluster", "failover")
	p.WaitStates("STANDBY", "ACTIVE")
	counted(p.Pair, p.B)
	wantStep(t, verified(t, p.A, api.VerifyOK)["volume"], api.VerifyOK, "gw-b now, against gw-a")
	p.A.Kill() // the policy knows its addresses
	wantStep(t, verified(t, p.B, api.VerifyUnknown)["virtual route table"], api.VerifyUnknown, "false, as it must be: 10.1.0.2 (gw-a), 192.0.2.2 (gw-a)")
}
