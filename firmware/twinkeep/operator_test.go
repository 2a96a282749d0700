package main

import (
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// operate runs an operator's command at a member and fails the test unless it ends as wanted.
func operate(t *testing.T, m *pair.Member, wantOK bool, args ...string) string {
	t.Helper()
	out, err := exec.Command(binary, append([]string{"--run", m.Run()}, args...)...).CombinedOutput()
	if (err == nil) != wantOK {
		t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestClusterFailoverCommand(t *testing.T) {
	p := started(t)
	operate(t, p.A, false, "cluster", "failover", "--to", "gw-z")
	operate(t, p.A, false, "cluster", "failover", "--to", "gw-a")
	operate(t, p.A, false, "cluster", "failover", "--for", "-1s")
	if s := p.A.Status(); s.State != "ACTIVE" {
		t.Fatalf("a refused command changed the state to %s", s.State)
	}
	operate(t, p.A, true, "cluster", "failover", "--to", "gw-b", "--for", "3s")
	p.WaitStates("STANDBY", "ACTIVE")
	p.WaitStates("ACTIVE", "STANDBY") // the time away is over
}

func TestClusterDownAndUp(t *testing.T) {
	p := started(t)
	operate(t, p.A, true, "cluster", "down", "-p")
	p.WaitStates("DOWN", "ACTIVE")
	if s := p.A.Status(); len(s.Problems) != 1 || s.Problems[0] != "admin_down: taken down by an operator" {
		t.Errorf("problems %v", s.Problems)
	}
	p.A.Stop()
	p.A.Start()
	p.WaitStates("DOWN", "ACTIVE") // also after a restart
	operate(t, p.A, true, "cluster", "up")
	p.WaitStates("STANDBY", "ACTIVE")
	operate(t, p.A, false, "cluster", "up")
	p.A.Stop()
	p.A.Start()
	p.WaitStates("STANDBY", "ACTIVE")
}

func TestCriticalDeviceCommand(t *testing.T) {
	p := started(t)
	for _, bad := range [][]string{
		{"cluster", "device", "report", "dns", "fine"},
		{"cluster", "device", "report", "../x", "ok"},
		{"cluster", "device", "register", "dns", "--timeout", "-1s"},
		{"cluster", "device", "unregister", "dns"},
	} {
		operate(t, p.A, false, bad...)
	}
	operate(t, p.A, true, "cluster", "device", "register", "dns", "--timeout", "2s")
	operate(t, p.A, true, "cluster", "device", "report", "dns", "ok")
	if out := operate(t, p.A, true, "cluster", "device", "list"); !strings.Contains(out, "dns") || !strings.Contains(out, "Interface Active Check  ok") {
		t.Errorf("list:\n%s", out)
	}
	began := time.Now()
	p.WaitStates("DOWN", "ACTIVE") // silent past its timeout
	if d := time.Since(began); d < time.Second {
		t.Errorf("a problem already after %v", d)
	}
	if out := operate(t, p.A, true, "cluster", "device", "list"); !strings.Contains(out, "has not reported for 2s") {
		t.Errorf("list:\n%s", out)
	}
	operate(t, p.A, true, "cluster", "device", "unregister", "dns")
	p.WaitStates("STANDBY", "ACTIVE")
	operate(t, p.B, true, "cluster", "device", "report", "uplink", "problem", "no default route")
	p.WaitStates("ACTIVE", "DOWN")
}

func TestPrimaryUpMode(t *testing.T) {
	p := pair.NewPair(t, binary)
	for i, m := range []*pair.Member{p.A, p.B} {
		m.WriteNode(strings.Replace(pair.NodeFile(i+1), "  name: test\n", "  name: test\n  mode: primary-up\n", 1))
	}
	p.StartBoth()
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	p.A.Start()
	p.WaitStates("STANDBY", "ACTIVE")
	p.WaitStates("ACTIVE", "STANDBY")
	p.Wait("the event", func() bool { return strings.Contains(p.A.Log(), "Master role reclaimed by expected master") })
	if mode := p.A.Status().Mode; mode != "primary-up" {
		t.Errorf("mode %s", mode)
	}
}

// TestGatewaydIsACriticalDevice: its death counts, and a restart in time does not.
func TestGatewaydIsACriticalDevice(t *testing.T) {
	p := started(t)
	registered := func() bool {
		for _, d := range p.A.Status().Devices {
			if d.Name == "gatewayd" && d.State == "ok" {
				return true
			}
		}
		return false
	}
	p.Wait("gatewayd to register", registered)
	syscall.Kill(p.A.Process("gatewayd"), syscall.SIGKILL) // the supervisor restarts it
	time.Sleep(6 * time.Second)
	if s := p.A.Status(); s.State != "ACTIVE" || !registered() {
		t.Errorf("after a restart in time: %s, %+v", s.State, s.Devices)
	}
	syscall.Kill(p.A.Process("gatewayd"), syscall.SIGSTOP)
	p.WaitStates("DOWN", "ACTIVE")
	syscall.Kill(p.A.Process("gatewayd"), syscall.SIGCONT)
	p.WaitStates("STANDBY", "ACTIVE")
}

// TestMonitor: the active member loses its way to a host that the peer still reaches.
func TestMonitor(t *testing.T) {
	for _, probe := range []string{"icmp", "arp", "tcp:7"} {
		t.Run(probe, func(t *testing.T) {
			p := pair.NewPair(t, binary)
			p.ServerNS.IP("addr add 192.0.2.20/24 dev eth0")
			if probe == "tcp:7" {
				var ln net.Listener
				p.ServerNS.Try(func() (err error) { ln, err = net.Listen("tcp", pair.Server+":7"); return err })
				defer ln.Close()
			}
			for i, m := range []*pair.Member{p.A, p.B} {
				m.WriteNode(pair.NodeFile(i+1) + "monitors:\n  - {name: uplink, hosts: [" + pair.Server + "], probe: '" + probe + "', interval: 100ms, loss: 3, grace: 0s}\n")
			}
			p.StartBoth()
			answers := func(m *pair.Member) bool {
				for _, d := range m.Status().Devices {
					if d.Name == "monitor uplink" && d.Text == "1 of 1 hosts answer" {
						return true
					}
				}
				return false
			}
			p.Wait("the monitors", func() bool { return answers(p.A) && answers(p.B) })
			// The way is lost beyond the link: the server no longer answers member A.
			p.ServerNS.Run("nft", "add table netdev lost; add chain netdev lost in { type filter hook ingress device eth0 priority 0; }; add rule netdev lost in ether saddr "+p.A.NS.MAC("wan").String()+" drop")
			p.WaitStates("DOWN", "ACTIVE")
			if s := p.A.Status(); len(s.Problems) != 1 || s.Problems[0] != "monitor uplink: 1 of 1 hosts do not answer: "+pair.Server {
				t.Errorf("problems %v", s.Problems)
			}
			p.ServerNS.Run("nft", "delete", "table", "netdev", "lost")
			p.WaitStates("STANDBY", "ACTIVE")
		})
	}
}
