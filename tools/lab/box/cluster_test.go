package box

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"github.com/twinkeep/twinkeep/tools/lab/capture"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
	"github.com/twinkeep/twinkeep/tools/lab/vswitch"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// pairTiming is long: two machines under emulation share a busy host, and nothing here depends on how fast a failure is seen.
const pairTiming = "{beat: 200ms, lease: 2500ms, dead: 4s, silence: 8s}"

// pairQuick leaves a trial time to come in sync on a busy host.
const pairQuick = "twinkeep.journal=console twinkeep.trial.healthy=3s twinkeep.trial.limit=6m"

// member is the node file of one of two boxes.
func member(id int) string {
	text := strings.NewReplacer(
		"hostname: gw-a", fmt.Sprintf("hostname: gw-%c", 'a'+id-1), "member: 1", fmt.Sprintf("member: %d", id),
		"10.1.0.2/24", fmt.Sprintf("10.1.0.%d/24", id+1), "192.0.2.2/24", fmt.Sprintf("192.0.2.%d/24", id+1),
		"169.254.77.1/30", fmt.Sprintf("169.254.77.%d/30", id),
	).Replace(node)
	before, _, _ := strings.Cut(text, "  timing:")
	_, after, _ := strings.Cut(text, "interfaces:")
	return before + "  timing: " + pairTiming + "\ninterfaces:" + after + "nat:\n  - {from: [10.1.0.0/24], out: G2, to: vip, ports: random}\n"
}

// lan is a switch with the boxes and one namespace on it.
type lan struct {
	*vswitch.Switch
	ns    *netnslab.NS
	ports [2]string

	mu     sync.Mutex
	owners []string // ports from which the shared MAC came, one after the other
}

var sharedOUI = []byte{0x10, 0, 0, 0}

func newLAN(t *testing.T, dir, run, name, addr, router string) *lan {
	l := &lan{ns: netnslab.New(t)}
	l.Switch = vswitch.New(vswitch.Config{Name: name, OnFrame: func(f vswitch.Frame) {
		if f.Dir != capture.In || !bytes.Equal(f.Data[6:10], sharedOUI) {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if n := len(l.owners); n == 0 || l.owners[n-1] != f.Port {
			l.owners = append(l.owners, f.Port)
		}
	}})
	t.Cleanup(func() { l.Close() })
	for i, who := range []string{"a", "b", "host"} {
		port := name + "-" + who
		socket := filepath.Join(run, port)
		if err := l.AddPort(port); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(filepath.Join(dir, port+".pcap"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if err := l.Capture(port, f); err != nil {
			t.Fatal(err)
		}
		if err := l.Listen(port, socket); err != nil {
			t.Fatal(err)
		}
		if i < 2 {
			l.ports[i] = socket
		} else if addr != "" {
			l.join(t, socket, addr, router)
		}
	}
	return l
}

// join plugs the namespace in.
func (l *lan) join(t *testing.T, socket, addr, router string) {
	l.ns.IP("link add eth0 type veth peer name wire")
	l.ns.IP("link set eth0 up")
	l.ns.IP("link set wire up")
	l.ns.IP("addr add " + addr + "/24 dev eth0")
	if router != "" {
		l.ns.IP("route add default via " + router)
	}
	l.ns.Run("ethtool", "-K", "eth0", "tx", "off") // frames that pass through a program need their checksums
	raw := l.ns.Raw("wire")
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { conn.Close(); raw.Close(); wg.Wait() })
	wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, _, err := raw.ReadFrom(buf)
			if err != nil || vswitch.WriteFrame(conn, buf[:n]) != nil {
				return
			}
		}
	})
	wg.Go(func() {
		for {
			f, err := vswitch.ReadFrame(conn)
			if err != nil {
				return
			}
			raw.WriteTo(f, &packet.Addr{HardwareAddr: f[:6]}) // a full queue loses a frame, as a switch does
		}
	})
}

// flow is a connection from the LAN to the server; its source as the server saw it first must stay.
type flow struct {
	conn  net.Conn
	lines *bufio.Scanner
	seen  string
}

func (f *flow) ask(timeout time.Duration) (string, error) {
	f.conn.SetDeadline(time.Now().Add(timeout))
	if _, err := fmt.Fprintln(f.conn, "who am I"); err != nil {
		return "", err
	}
	if !f.lines.Scan() {
		return "", fmt.Errorf("no answer: %w", f.lines.Err())
	}
	return f.lines.Text(), nil
}

const serverAddr = "192.0.2.254"

func serve(t *testing.T, ns *netnslab.NS) {
	var ln net.Listener
	ns.Try(func() (err error) { ln, err = net.Listen("tcp", serverAddr+":7777"); return err })
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for s := bufio.NewScanner(c); s.Scan(); {
					fmt.Fprintln(c, c.RemoteAddr())
				}
			}()
		}
	}()
}

func dial(t *testing.T, ns *netnslab.NS) *flow {
	f := &flow{}
	ns.Try(func() (err error) {
		f.conn, err = net.DialTimeout("tcp", serverAddr+":7777", 30*time.Second)
		return err
	})
	t.Cleanup(func() { f.conn.Close() })
	f.lines = bufio.NewScanner(f.conn)
	var err error
	if f.seen, err = f.ask(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestUpgradeCluster: two boxes with disks and firmware, upgraded by one command on the serial console of the active one, with
// connections through them that must not end.
func TestUpgradeCluster(t *testing.T) {
	files := func(id int) Variant {
		return Variant{Revision: 100, Cmdline: pairQuick, Files: []qemu.File{{Path: "/etc/twinkeep/node.yaml", Mode: 0o600, Data: []byte(member(id))}}}
	}
	a := newLife(t, files(1), false)
	b := newLife(t, files(2), false)
	run, err := os.MkdirTemp("", "pair")
	a.must(err)
	t.Cleanup(func() { os.RemoveAll(run) })
	lanside := newLAN(t, a.cfg.Dir, run, "lan", "10.1.0.10", "10.1.0.1")
	wanside := newLAN(t, a.cfg.Dir, run, "wan", serverAddr, "")
	syncside := newLAN(t, a.cfg.Dir, run, "sync", "", "")
	for i, l := range []*life{a, b} {
		l.cfg.NICs, l.cfg.Ports, l.cfg.Station = 0, []string{lanside.ports[i], wanside.ports[i], syncside.ports[i]}, byte(i+1)
	}
	a.offer(Variant{Revision: 200, Cmdline: pairQuick})
	t.Cleanup(func() {
		if !t.Failed() || a.Box == nil || b.Box == nil {
			return
		}
		for _, l := range []*life{a, b} { // what state sync says
			l.Enter("")
			l.Enter("sync")
			l.Enter("ha")
		}
		time.Sleep(15 * time.Second)
	})
	a.on()
	a.see(`role assumed`)
	b.on()
	b.see(`STANDBY`)
	b.see(`in sync: equal to member 1`)
	a.prompt1()
	serve(t, wanside.ns)
	var flows []*flow
	for range 20 {
		flows = append(flows, dial(t, lanside.ns))
	}
	end, talked := make(chan struct{}), make(chan error, 1)
	var worst time.Duration
	count := 0
	go func() {
		for {
			select {
			case <-end:
				talked <- nil
				return
			case <-time.After(20 * time.Millisecond):
			}
			began := time.Now()
			if _, err := flows[0].ask(2 * time.Minute); err != nil {
				talked <- err
				return
			}
			worst = max(worst, time.Since(began))
			count++
		}
	}()
	a.must(a.Enter("upgrade cluster /dev/vdb"))
	a.see(`gw-b fetches and writes the image`)
	b.see(`init: on trial: b`)
	b.see(`the image in slot B is permanent now: test-200`)
	a.see(`the role moves from gw-a to gw-b`)
	a.see(`gw-a fetches and writes the image|gw-a is asked to fetch`)
	a.see(`init: on trial: b`)
	a.see(`the image in slot B is permanent now: test-200`)
	a.see(`upgrade of the cluster: the end`)
	close(end)
	a.must(<-talked)
	lost := 0
	for _, f := range flows {
		if seen, err := f.ask(time.Minute); err != nil || seen != f.seen {
			lost++
			t.Errorf("lost: %q, was %q: %v", seen, f.seen, err)
		}
	}
	t.Logf("%d of %d connections lost; %d questions on one of them, the longest answer took %v", lost, len(flows), count, worst)
	for _, l := range []*lan{lanside, wanside} {
		l.mu.Lock()
		if want := []string{l.name() + "-a", l.name() + "-b"}; !slices.Equal(l.owners, want) {
			t.Errorf("frames from the shared MAC came from %v, want %v", l.owners, want)
		}
		l.mu.Unlock()
	}
	a.prompt1()
	if out := a.command("upgrade status"); !strings.Contains(out, "upgraded") {
		t.Errorf("%s", out)
	}
	a.runs("B", "good", 200)
	b.prompt1()
	b.runs("B", "good", 200)
	a.cut()
	b.cut()
}

// name of the network, as its ports begin with it.
func (l *lan) name() string {
	name, _, _ := strings.Cut(filepath.Base(l.ports[0]), "-")
	return name
}

// prompt1 asks for a prompt until one is the last thing on the console: lines of the journal come in between.
func (l *life) prompt1() {
	l.Helper()
	for end := time.Now().Add(patience); ; {
		l.must(l.Enter(""))
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_, err := l.Expect(ctx, prompt)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			l.Fatal(err)
		}
	}
}
