package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/ether"
	"github.com/twinkeep/twinkeep/tools/lab/probe"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
	"github.com/twinkeep/twinkeep/tools/lab/vswitch"
)

// TestTwoMachines boots two machines of the image on one switch, sends probes between them and breaks the cable
// in several ways. It takes half a minute and needs the image: TWINKEEP_LAB_TEST=1 go test ./tools/lab/scenario.
// TWINKEEP_LAB_KERNEL and TWINKEEP_LAB_INITRAMFS choose another guest.
func TestTwoMachines(t *testing.T) {
	if os.Getenv("TWINKEEP_LAB_TEST") == "" {
		t.Skip("set TWINKEEP_LAB_TEST=1 to boot machines")
	}
	accel, err := qemu.Choose(qemu.ThisHost())
	if err != nil {
		t.Fatal(err)
	}
	t.Log(accel)
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	image := func(env, name string) string {
		if v := os.Getenv(env); v != "" {
			return v
		}
		return filepath.Join(root, "build/image", name)
	}
	agentPath := filepath.Join(t.TempDir(), "lab-agent")
	if err := BuildAgent(t.Context(), root, agentPath); err != nil {
		t.Fatal(err)
	}
	run, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(run)
	var top Topology
	top.Segments = []string{"lan"}
	for i, n := range []string{"a", "b"} {
		top.Hosts = append(top.Hosts, Host{Name: n, Node: fmt.Sprintf(hostNode, "host-"+n, fmt.Sprintf("10.1.0.%d", i+1)),
			NICs: []NIC{{Segment: "lan", MAC: ether.MAC{0x52, 0x54, 0, 0, byte(i + 1), 1}}}})
	}
	dir := t.TempDir()
	l, err := Start(Options{
		Dir: dir, RunDir: run, Agent: agentPath, Accel: accel,
		Kernel: image("TWINKEEP_LAB_KERNEL", "vmlinux"), Initramfs: image("TWINKEEP_LAB_INITRAMFS", "initramfs.cpio.zst"),
	}, top)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for i, n := range l.Names() {
		c, err := l.Agent(ctx, n)
		if err != nil {
			t.Fatal(err)
		}
		up, err := c.Uptime(ctx)
		t.Logf("%s: agent answers %.1f s after the start, uptime %.1f s, %v", n, l.Elapsed().Seconds(), up.Seconds(), err)
		for _, argv := range [][]string{
			{"ip", "addr", "add", fmt.Sprintf("10.1.0.%d/24", i+1), "dev", "G1"}, {"ip", "link", "set", "dev", "G1", "up"},
		} {
			r, err := c.Exec(ctx, argv...)
			t.Logf("%s: %v: %+v %v", n, argv, r, err) // the address is there already when gatewayd is
		}
	}
	a, err := l.Agent(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Agent(ctx, "b")
	if err != nil {
		t.Fatal(err)
	}
	target := netip.MustParseAddrPort("10.1.0.2:7000")
	if _, err := b.ServeUDP(ctx, target); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ServeTCP(ctx, target); err != nil {
		t.Fatal(err)
	}
	up, err := a.StartUDP(ctx, probe.UDPConfig{Target: target, Interval: 20 * time.Millisecond, Duration: time.Minute, Threshold: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	tp, err := a.StartTCP(ctx, probe.TCPConfig{Target: target, Interval: 50 * time.Millisecond, Duration: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	lan := l.Switches["lan"]
	pause := func(d time.Duration) { time.Sleep(d) }
	pause(2 * time.Second)
	for _, cut := range []vswitch.Rules{{Out: vswitch.Impair{Cut: true}}, {In: vswitch.Impair{Cut: true}}} {
		if err := lan.SetRules("lan-b", cut); err != nil {
			t.Fatal(err)
		}
		pause(time.Second)
		if err := lan.SetRules("lan-b", vswitch.Rules{}); err != nil {
			t.Fatal(err)
		}
		pause(time.Second)
	}
	carrier := func() string {
		s, err := b.ReadFile(ctx, "/sys/class/net/G1/carrier")
		return fmt.Sprintf("%q %v", s, err)
	}
	t.Log("carrier before: ", carrier())
	if err := l.Machines["b"].SetLink(ctx, "G1", false); err != nil {
		t.Fatal(err)
	}
	pause(time.Second)
	t.Log("carrier after set_link off: ", carrier())
	if err := l.Machines["b"].SetLink(ctx, "G1", true); err != nil {
		t.Fatal(err)
	}
	pause(2 * time.Second)
	ur, err := a.StopUDP(ctx, up.Handle)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := a.StopTCP(ctx, tp.Handle)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("UDP: sent %d received %d lost %d, longest outage %v, RTT %+v, sources %v", ur.Sent, ur.Received, ur.Lost, ur.Longest.Outage, ur.RTT, ur.Sources)
	for _, g := range ur.Gaps {
		t.Logf("UDP gap: at %v, outage %v, lost %d", g.At.Round(time.Millisecond), g.Outage.Round(time.Millisecond), g.Lost)
	}
	t.Logf("TCP: %+v", tr)
	if len(ur.Gaps) < 3 || ur.Received < 100 {
		t.Errorf("want three outages of a second: %+v", ur)
	}
	if tr.Resets != 0 || tr.Connects != 1 || tr.Received < 20 {
		t.Errorf("want one connection without reset: %+v", tr)
	}
	at, err := l.Machines["b"].PowerCut()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("power cut took %v, then: %v", time.Since(at), l.Machines["b"].Wait(ctx))
	for _, p := range []string{"lan-a", "lan-b"} {
		st, err := lan.Stats(p)
		t.Logf("%s: %+v %v", p, st, err)
		fi, err := os.Stat(filepath.Join(dir, p+".pcap"))
		if err != nil || fi.Size() < 10000 {
			t.Errorf("capture of %s: %v %v", p, fi, err)
		}
	}
	for _, e := range lan.Events() {
		t.Logf("event: %s", e.Text)
	}
}
