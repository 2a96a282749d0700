package capture

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"

	"github.com/twinkeep/twinkeep/firmware/capture/dissect"
	"github.com/twinkeep/twinkeep/firmware/capture/filter"
	"github.com/twinkeep/twinkeep/firmware/capture/pcapng"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// lab is a member with an interface, and a host on the other end of its cable.
type lab struct {
	t         *testing.T
	gw, host  *netnslab.NS
	mac       net.HardwareAddr
	neighbour *packet.Conn
}

func newLab(t *testing.T) *lab {
	gw, host := netnslab.New(t), netnslab.New(t)
	for _, ns := range []*netnslab.NS{gw, host} {
		ns.Run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	}
	netnslab.Veth(gw, "lan", host, "far")
	gw.IP("addr add 10.1.0.2/24 dev lan")
	l := &lab{t: t, gw: gw, host: host, mac: gw.MAC("lan"), neighbour: host.Raw("far")}
	t.Cleanup(func() { l.neighbour.Close() })
	return l
}

func (l *lab) open(c Config) *Capture {
	l.t.Helper()
	var out *Capture
	l.gw.Try(func() (err error) {
		c.Device = "lan"
		out, err = Open(c)
		return err
	})
	l.t.Cleanup(func() { out.Close() })
	return out
}

// send has the host send a frame.
func (l *lab) send(dst net.HardwareAddr, rest string) {
	l.t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(rest, " ", ""))
	if err != nil {
		l.t.Fatal(err)
	}
	frame := append(append(append([]byte{}, dst...), 2, 0, 0, 0, 0, 9), b...)
	if _, err := l.neighbour.WriteTo(frame, netnslab.To(dst)); err != nil {
		l.t.Fatal(err)
	}
}

// lines are those of the next n frames.
func lines(t *testing.T, c *Capture, n int) (out []string) {
	t.Helper()
	for range n {
		p, err := c.Next(time.Now().Add(5 * time.Second))
		if err != nil {
			t.Fatalf("after %q: %v", out, err)
		}
		out = append(out, fmt.Sprintf("%d %s", p.Direction, dissect.Line(p.Data, p.Length, dissect.Options{})))
	}
	return out
}

// onlyThen checks that no frame was there before those that mark makes.
func (l *lab) onlyThen(c *Capture, mark func(), want ...string) {
	l.t.Helper()
	mark()
	got := lines(l.t, c, len(want))
	for i, w := range want {
		if got[i] != w {
			l.t.Errorf("got %q, want %q", got[i], w)
		}
	}
}

const (
	udpTo   = "0800 4500001c00004000 4011 0000 0a010009 0a0100fe" // 10.1.0.9 > 10.1.0.254
	udpBody = "1388 1389 0008 0000"
	inUDP   = "1 IP 10.1.0.9.5000 > 10.1.0.254.5001: UDP, length 0"
)

// TestFilter: what the filter means comes, in both directions, nothing else.
func TestFilter(t *testing.T) {
	l := newLab(t)
	c := l.open(Config{Filter: "udp port 5001 and not host 10.1.0.7 or icmp"})
	before := time.Now().Add(-time.Second)
	l.send(l.mac, udpTo+"1388 1388 0008 0000") // another port
	l.send(l.mac, "0800 4500001c00004000 4011 0000 0a010007 0a0100fe"+udpBody)
	l.send(l.mac, "88cc 0000")
	l.onlyThen(c, func() { l.send(l.mac, udpTo+udpBody) }, inUDP)
	l.host.IP("addr add 10.1.0.9/24 dev far")
	l.host.Run("ping", "-q", "-c", "1", "-W", "5", "10.1.0.2")
	p, err := c.Next(time.Now().Add(5 * time.Second))
	if err != nil || p.Direction != pcapng.Inbound || p.Time.Before(before) || p.Time.After(time.Now()) {
		t.Errorf("%+v %v", p, err)
	}
	if got := lines(t, c, 1)[0]; !strings.HasPrefix(got, "2 IP 10.1.0.2 > 10.1.0.9: ICMP echo reply, id ") {
		t.Error(got)
	}
	if s, err := c.Statistics(); err != nil || s.Received != 3 || s.Dropped != 0 {
		t.Errorf("%+v %v", s, err)
	}
	if _, err := c.Next(time.Now().Add(10 * time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// TestDirection: inbound and outbound are known to the kernel.
func TestDirection(t *testing.T) {
	l := newLab(t)
	l.host.IP("addr add 10.1.0.9/24 dev far")
	in, out := l.open(Config{Filter: "icmp and inbound"}), l.open(Config{Filter: "icmp and outbound"})
	l.host.Run("ping", "-q", "-c", "1", "-W", "5", "10.1.0.2")
	for c, want := range map[*Capture]string{in: "1 IP 10.1.0.9 > 10.1.0.2: ICMP echo request", out: "2 IP 10.1.0.2 > 10.1.0.9: ICMP echo reply"} {
		if got := lines(t, c, 1)[0]; !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if s, _ := c.Statistics(); s.Received != 1 {
			t.Errorf("%+v", s)
		}
	}
}

// TestSnaplen: so much is kept, and the length is still that of the frame.
func TestSnaplen(t *testing.T) {
	l := newLab(t)
	c := l.open(Config{Filter: "udp", Snaplen: 38})
	l.send(l.mac, udpTo+udpBody+strings.Repeat("00", 500))
	if p, err := c.Next(time.Now().Add(5 * time.Second)); err != nil || len(p.Data) != 38 || p.Length != 542 {
		t.Errorf("%d of %d: %v", len(p.Data), p.Length, err)
	}
}

// TestPromiscuous: frames to others come when they are asked for, and the NIC forgets it afterwards.
func TestPromiscuous(t *testing.T) {
	l := newLab(t)
	state := func() string { return l.gw.IP("-d link show lan") }
	plain := l.open(Config{Filter: "udp"})
	if !strings.Contains(state(), "promiscuity 0") {
		t.Error(state())
	}
	c := l.open(Config{Filter: "udp", Promiscuous: true})
	if !strings.Contains(state(), "promiscuity 1") {
		t.Error(state())
	}
	l.onlyThen(c, func() { l.send(net.HardwareAddr{2, 9, 9, 9, 9, 9}, udpTo+udpBody) }, inUDP)
	c.Close()
	if !strings.Contains(state(), "promiscuity 0") {
		t.Error(state())
	}
	plain.Close()
}

// TestVLAN: the kernel takes the outermost tag off a frame that comes in. It counts for the filter all the same, and is shown where it was.
func TestVLAN(t *testing.T) {
	l := newLab(t)
	inner := "1 vlan 6, p 0, vlan 7, p 0, " + inUDP[2:]
	tagged := "1 vlan 6, p 3, " + inUDP[2:]
	captures := map[string][]string{
		"vlan 6 and udp": {tagged}, "vlan and udp": {tagged}, "vlan 6": {tagged, inner}, "vlan": {tagged, inner}, "udp and not vlan": {inUDP},
		"vlan 6 and vlan 7 and udp port 5001": {inner}, "vlan and vlan": {inner}, "udp port 5001": {tagged, inUDP},
	}
	open := map[string]*Capture{}
	for e := range captures {
		open[e] = l.open(Config{Filter: e})
	}
	l.send(l.mac, "8100 6006 "+udpTo+udpBody)
	l.send(l.mac, "8100 0006 8100 0007 "+udpTo+udpBody)
	l.send(l.mac, udpTo+udpBody)
	for e, c := range open {
		want := captures[e]
		if got := lines(t, c, len(want)); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", e, got, want)
		}
		if s, _ := c.Statistics(); s.Received != uint64(len(want)) {
			t.Errorf("%q: %d frames, want %d", e, s.Received, len(want))
		}
	}
}

// TestVLANLeaving: the tag of a frame that leaves by an interface of a VLAN is beside the frame, too, when the NIC puts it in.
func TestVLANLeaving(t *testing.T) {
	l := newLab(t)
	if out, err := exec.Command("ip", "netns", "exec", l.gw.Name, "ip", "link", "add", "lan.5", "link", "lan", "type", "vlan", "id", "5").CombinedOutput(); err != nil {
		t.Skipf("this kernel has no interfaces for VLANs (module 8021q): %s", out)
	}
	l.host.IP("link add far.5 link far type vlan id 5")
	l.host.IP("addr add 10.5.0.9/24 dev far.5")
	l.host.IP("link set far.5 up")
	l.gw.IP("addr add 10.5.0.2/24 dev lan.5")
	l.gw.IP("link set lan.5 up")
	c := l.open(Config{Filter: "vlan 5 and icmp"})
	l.host.Run("ping", "-q", "-c", "1", "-W", "5", "10.5.0.2")
	for i, want := range []string{"1 vlan 5, p 0, IP 10.5.0.9 > 10.5.0.2: ICMP echo request", "2 vlan 5, p 0, IP 10.5.0.2 > 10.5.0.9: ICMP echo reply"} {
		if got := lines(t, c, 1)[0]; !strings.HasPrefix(got, want) {
			t.Errorf("%d: got %q, want %q", i, got, want)
		}
	}
}

// TestLive: on one interface, with the same traffic, every expression chooses as many frames here as tcpdump's does in the kernel.
func TestLive(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip("no tcpdump on this machine; to compare with it: apt-get install --no-install-recommends tcpdump")
	}
	l := newLab(t)
	for _, e := range []string{"", "udp", "vlan", "vlan 6", "not vlan", "not vlan and udp", "udp and not vlan", "vlan or udp", "vlan 6 and udp port 5001", "udp port 5001", "vlan and vlan 7", "host 10.1.0.9", "arp or vlan 6", "tcp", "tcp or (vlan and host 10.1.0.254)", "ether proto 0x88cc"} {
		c := l.open(Config{Filter: e})
		file := filepath.Join(t.TempDir(), "x.pcap")
		cmd := exec.Command("ip", "netns", "exec", l.gw.Name, "tcpdump", "-i", "lan", "-p", "-U", "-w", file, "--immediate-mode", "--", e)
		stderr, err := cmd.StderrPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if said, err := bufio.NewReader(stderr).ReadString('\n'); err != nil || !strings.Contains(said, "listening") {
			t.Fatalf("tcpdump %q: %s %v", e, said, err)
		}
		for range 2 {
			l.send(l.mac, udpTo+udpBody)
			l.send(l.mac, "8100 0006 "+udpTo+udpBody)
			l.send(l.mac, "8100 0006 8100 0007 "+udpTo+udpBody)
			l.send(l.mac, "0806 0001 0800 06 04 0001 020000000001 0a010009 000000000000 0a010002")
			l.send(l.mac, "88cc 0000")
		}
		ours, theirs := 0, 0
		for {
			if _, err := c.Next(time.Now().Add(20 * time.Millisecond)); err != nil {
				break
			}
			ours++
		}
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end) && theirs != ours; time.Sleep(10 * time.Millisecond) {
			theirs = framesOf(t, file)
		}
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if theirs = framesOf(t, file); ours != theirs || ours == 0 && e != "tcp" && e != "not vlan and udp" {
			t.Errorf("%q: %d frames, tcpdump has %d", e, ours, theirs)
		}
	}
}

// framesOf counts the whole frames of a capture file of the classic format.
func framesOf(t *testing.T, file string) (n int) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const fileHeader, frameHeader = 24, 16
	for b = b[min(len(b), fileHeader):]; len(b) >= frameHeader; n++ {
		length := frameHeader + int(binary.NativeEndian.Uint32(b[8:]))
		if length > len(b) {
			break
		}
		b = b[length:]
	}
	return n
}

// TestGate: what a shut gate refuses is seen coming in, and not leaving.
func TestGate(t *testing.T) {
	l := newLab(t)
	l.host.IP("addr add 10.1.0.9/24 dev far")
	l.host.IP("neigh add 10.1.0.2 lladdr " + l.mac.String() + " dev far")
	l.gw.IP("neigh add 10.1.0.9 lladdr " + l.host.MAC("far").String() + " dev lan")
	for _, hook := range []string{"ingress", "egress"} {
		l.gw.Run("nft", "add table netdev t")
		l.gw.Run("nft", "add chain netdev t c { type filter hook "+hook+" device lan priority -500; policy drop; }")
		c := l.open(Config{Filter: "icmp"})
		exec.Command("ip", "netns", "exec", l.host.Name, "ping", "-q", "-c", "1", "-W", "0.2", "10.1.0.2").Run() // gets no answer
		lines(t, c, 1)
		if s, err := c.Statistics(); err != nil || s.Received != 1 {
			t.Errorf("%s shut: %+v %v, want the request and no answer", hook, s, err)
		}
		l.gw.Run("nft", "delete table netdev t")
	}
}

// TestDrops: what does not fit is counted.
func TestDrops(t *testing.T) {
	l := newLab(t)
	c := l.open(Config{Filter: "udp"})
	const many = 12000
	for range many {
		l.send(l.mac, udpTo+udpBody+strings.Repeat("00", 1000))
	}
	kept := uint64(0)
	for {
		if _, err := c.Next(time.Now().Add(50 * time.Millisecond)); err != nil {
			break
		}
		kept++
	}
	s, err := c.Statistics()
	if err != nil || s.Dropped == 0 || s.Received != many || kept != s.Received-s.Dropped {
		t.Errorf("%d kept, %+v %v", kept, s, err)
	}
}

// TestDown: an interface that goes down and up is captured from again; one that is removed ends the capture.
func TestDown(t *testing.T) {
	l := newLab(t)
	c := l.open(Config{Filter: "udp"})
	l.gw.IP("link set lan down")
	l.gw.IP("link set lan up")
	l.onlyThen(c, func() { l.send(l.mac, udpTo+udpBody) }, inUDP)
	l.gw.IP("link del lan")
	if _, err := c.Next(time.Now().Add(5 * time.Second)); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
}

// TestRefused: a bad filter, no such interface.
func TestRefused(t *testing.T) {
	l := newLab(t)
	l.gw.Try(func() error {
		var fault *filter.Error
		if _, err := Open(Config{Device: "lan", Filter: "host"}); !errors.As(err, &fault) {
			t.Error(err)
		}
		if _, err := Open(Config{Device: "nosuch"}); err == nil || !strings.Contains(err.Error(), "nosuch") {
			t.Error(err)
		}
		return nil
	})
}
