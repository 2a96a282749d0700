package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/capture/pcapng"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// lines are what a sniff that runs has shown.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// sniffing runs sniff at a member's console until the test ends, or it is interrupted.
func sniffing(t *testing.T, m *pair.Member, args ...string) (shown *lines, interrupt func()) {
	t.Helper()
	shown = new(lines)
	cmd := exec.Command(binary, append([]string{"--run", m.Run(), "sniff"}, args...)...)
	cmd.Stdout, cmd.Stderr = shown, shown
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	interrupt = func() {
		once.Do(func() {
			cmd.Process.Signal(os.Interrupt)
			if err := cmd.Wait(); err != nil {
				t.Errorf("sniff %q: %v\n%s", args, err, shown)
			}
		})
	}
	t.Cleanup(interrupt)
	for end := time.Now().Add(10 * time.Second); !strings.Contains(shown.String(), "Listening"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("sniff %q does not begin: %s", args, shown)
		}
	}
	return shown, interrupt
}

// TestSniffFailover: how an operator watches a failover. On the active member the virtual address is answered, on the standby nothing of it
// leaves; when the active one dies, the other's lines tell it: its heartbeat opens the gate, and it announces the address.
func TestSniffFailover(t *testing.T) {
	p := started(t)
	active, endActive := sniffing(t, p.A, "lan", "icmp and host "+pair.LANVIP)
	standby, _ := sniffing(t, p.B, "lan", "outbound and host "+pair.LANVIP)
	takeover, end := sniffing(t, p.B, "lan", "-e", "(udp port 999 or arp) and outbound")
	p.ClientNS.Run("ping", "-q", "-c", "3", "-i", "0.2", pair.LANVIP)
	p.Wait("the answers on the active member", func() bool {
		text := active.String()
		return strings.Contains(text, " in  IP "+pair.Client+" > "+pair.LANVIP+": ICMP echo request") && strings.Contains(text, " out IP "+pair.LANVIP+" > "+pair.Client+": ICMP echo reply")
	})
	if text := standby.String(); strings.Contains(text, " IP ") || strings.Contains(text, "ARP") {
		t.Errorf("the standby sends for the virtual address:\n%s", text)
	}
	if text := takeover.String(); !strings.Contains(text, "heartbeat cluster 7 member 2 STANDBY") || strings.Contains(text, "gate open") {
		t.Errorf("before:\n%.2000s", text)
	}
	endActive() // it would break off with the member
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	p.Wait("the takeover in the lines", func() bool {
		text := takeover.String()
		opens := strings.Index(text, "heartbeat cluster 7 member 2 ACTIVE, holder")
		return opens >= 0 && strings.Contains(text[opens:], "ARP, Announcement "+pair.LANVIP+" is-at 10:00:00:00:") && strings.Contains(text, "gate open")
	})
	end()
	if text := takeover.String(); !strings.Contains(text, ", 0 lost\n") {
		t.Errorf("the end: %s", text[max(0, len(text)-300):])
	}
	if log := p.B.Log(); !strings.Contains(log, `capture on lan (lan) begins, filter "(udp port 999 or arp) and outbound"`) {
		t.Error("the log does not tell of the capture")
	}
}

// TestSniffSSH: a capture through the pipe is what Wireshark reads; the connection that carries it is not in it; who captured is logged.
func TestSniffSSH(t *testing.T) {
	p := pair.NewPair(t, binary)
	withPassword(t, p.A, p.B)
	p.StartBoth()
	c := newOpenSSH(t, 22, p.A, p.B)

	c.says(p, "10.1.0.2", 0, "heartbeat cluster 7 member ", "sniff", "lan", "udp", "port", "999", "-c", "3")
	c.says(p, "10.1.0.2", 1, "names are not looked up", "sniff", "lan", "host", "gw.example")
	c.says(p, "10.1.0.2", 1, "there is no interface", "sniff", "nosuch")
	c.says(p, "10.1.0.2", 1, "no file is written on the device", "sniff", "lan", "--write", "/data/x")

	file := filepath.Join(t.TempDir(), "lan.pcapng")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := c.at(p.ClientNS, "10.1.0.2", "sniff", "lan", "'udp port 999 or tcp port 22'", "--write", "-", "--for", "2s")
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	heartbeats := 0
	for r := pcapng.NewReader(out); ; {
		k, _, err := r.Next()
		if err != nil {
			break
		}
		if k != nil && k.Data[23] == 17 {
			heartbeats++
		} else if k != nil {
			t.Errorf("not a heartbeat: % x", k.Data)
		}
	}
	if heartbeats < 20 {
		t.Errorf("%d heartbeats in 2 s", heartbeats)
	}
	for _, tool := range []string{"tshark", "tcpdump"} {
		if path, err := exec.LookPath(tool); err == nil {
			text, err := exec.Command(path, "-n", "-c", "3", "-r", file).CombinedOutput()
			if err != nil || strings.Count(string(text), "10.1.0.255") < 3 {
				t.Errorf("%s: %v\n%s", tool, err, text)
			}
		}
	}
	own, stderr, code := c.run(p.ClientNS, "10.1.0.2", "sniff", "lan", "tcp", "-c", "3", "--own", "--for", "5s")
	if code != 0 || !strings.Contains(own, "10.1.0.2.22 > ") {
		t.Errorf("--own: %d\n%s%s", code, own, stderr)
	}
	if log := p.A.Log(); !strings.Contains(log, "sniff lan udp port 999 -c 3") || !strings.Contains(log, "operator=") && !strings.Contains(log, `"operator"`) {
		t.Error("the log does not tell who captured")
	}
}

// TestHardwareDiffPeer: a peer is asked, and so are archives. Interfaces in namespaces are not on PCI: the boxes are the same.
func TestHardwareDiffPeer(t *testing.T) {
	p := started(t)
	out, err := exec.Command(binary, "--run", p.A.Run(), "hardware", "diff", "gw-b").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "gw-a and gw-b have the same shared MACs") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := exec.Command(binary, "--run", p.A.Run(), "hardware", "diff", "gw-z").CombinedOutput(); err == nil || !strings.Contains(string(out), "gw-z") {
		t.Errorf("%v\n%s", err, out)
	}
}
