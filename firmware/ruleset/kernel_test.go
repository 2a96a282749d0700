package ruleset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables/expr"

	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// parts makes listings comparable: what stays in place is listed first.
func parts(s string) []string {
	out := strings.Split(s, "\n\t}")
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(strings.TrimSpace(a), strings.TrimSpace(b)) })
	for i := range out {
		out[i] = strings.TrimSpace(strings.TrimPrefix(out[i], "table inet twinkeep {"))
	}
	slices.Sort(out)
	return out
}

func list(t *testing.T, ns *netnslab.NS) string {
	t.Helper()
	return ns.Run("nft", "list", "table", "inet", Table)
}

// TestApply installs every example twice, and wants nft to read the text of it to the same effect.
func TestApply(t *testing.T) {
	for _, file := range files(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			r := load(t, file)
			ns := netnslab.New(t)
			ns.Try(r.Apply)
			first := list(t, ns)
			ns.Try(r.Apply)
			if diff := cmp.Diff(parts(first), parts(list(t, ns))); diff != "" {
				t.Fatalf("applied again (-first +second):\n%s", diff)
			}
			sameAsText(t, r, ns)
			ns.Try(Remove)
			if got := ns.Run("nft", "list", "tables"); got != "" {
				t.Errorf("left after Remove: %s", got)
			}
		})
	}
}

// sameAsText wants nft -f of the text to leave the same in a kernel as Apply has left in ns.
func sameAsText(t *testing.T, r *Ruleset, ns *netnslab.NS) {
	t.Helper()
	text := filepath.Join(t.TempDir(), "twinkeep.nft")
	if err := os.WriteFile(text, []byte(r.withoutFast().String()), 0o600); err != nil {
		t.Fatal(err)
	}
	other := netnslab.New(t)
	other.Run("nft", "-f", text)
	if diff := cmp.Diff(list(t, other), list(t, ns)); diff != "" {
		t.Errorf("(-nft -f +Apply):\n%s", diff)
	}
}

// TestApplyRefused wants the old rules to hold when the kernel refuses the new ones, even the very last of them, and the
// error to name the rule.
func TestApplyRefused(t *testing.T) {
	ns := netnslab.New(t)
	r := load(t, "testdata/example.yaml")
	ns.Try(r.Apply)
	before := list(t, ns)
	bad := load(t, "testdata/rich.yaml")
	last := bad.chains[len(bad.chains)-1]
	last.add("filter/broken", term{text: "bad", exprs: []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: "nowhere"}}})
	ns.Try(func() error {
		err := bad.Apply()
		if err == nil || !strings.Contains(err.Error(), "the old rules are in force: rule filter/broken (bad): no such file") {
			return fmt.Errorf("got %v, want a refusal", err)
		}
		return nil
	})
	if diff := cmp.Diff(before, list(t, ns)); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

// bench is client — gateway — server as in testdata/example.yaml, the VIPs on macvlans as had makes them.
type bench struct{ client, gateway, server *netnslab.NS }

func newBench(t *testing.T) bench {
	b := bench{netnslab.New(t), netnslab.New(t), netnslab.New(t)}
	netnslab.Veth(b.gateway, "G1", b.client, "eth0")
	netnslab.Veth(b.gateway, "G2", b.server, "eth0")
	b.client.IP("addr add 10.1.0.50/24 dev eth0")
	b.server.IP("addr add 192.0.2.50/24 dev eth0")
	for _, f := range []struct{ device, private, vip string }{
		{"G1", "10.1.0.2/24", "10.1.0.1/32"}, {"G2", "192.0.2.2/24", "192.0.2.1/32"},
	} {
		b.gateway.Run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2", "net.ipv4.ip_forward=1")
		b.gateway.IP(fmt.Sprintf("addr add %s dev %s", f.private, f.device))
		b.gateway.IP(fmt.Sprintf("link add link %s name %s-vip type macvlan mode private", f.device, f.device))
		b.gateway.IP(fmt.Sprintf("link set %s-vip up", f.device))
		b.gateway.IP(fmt.Sprintf("addr add %s dev %s-vip", f.vip, f.device))
	}
	b.client.IP("route add default via 10.1.0.1")
	return b
}

// TestTraffic sends UDP and TCP through the gateway; the server must see the VIP, and get through to nothing.
func TestTraffic(t *testing.T) {
	b := newBench(t)
	b.gateway.Try(load(t, "testdata/example.yaml").Apply)

	var udp net.PacketConn
	var tcp net.Listener
	b.server.Try(func() (err error) {
		if udp, err = net.ListenPacket("udp4", "192.0.2.50:7000"); err == nil {
			tcp, err = net.Listen("tcp4", "192.0.2.50:7000")
		}
		return err
	})
	defer udp.Close()
	defer tcp.Close()
	go func() {
		buf := make([]byte, 64)
		for {
			_, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			udp.WriteTo([]byte(from.String()), from)
		}
	}()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, c.RemoteAddr().String())
			c.Close()
		}
	}()
	for _, network := range []string{"udp4", "tcp4"} {
		b.client.Try(func() error {
			c, err := net.DialTimeout(network, "192.0.2.50:7000", 2*time.Second)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(2 * time.Second))
			if network == "udp4" {
				c.Write([]byte("hello"))
			}
			buf := make([]byte, 64)
			n, err := c.Read(buf)
			if err != nil {
				return fmt.Errorf("%s through the gateway: %w", network, err)
			}
			_, port, _ := net.SplitHostPort(c.LocalAddr().String())
			if got, want := string(buf[:n]), "192.0.2.1:"+port; got != want {
				t.Errorf("%s: the server saw %s, want %s", network, got, want)
			}
			return nil
		})
	}
	// From the outside in: nothing but ICMP.
	b.server.Run("ping", "-c1", "-W1", "192.0.2.1")
	b.server.IP("route add 10.1.0.0/24 via 192.0.2.2")
	b.server.Try(func() error {
		for _, address := range []string{"192.0.2.2:22", "192.0.2.1:22", "10.1.0.50:22"} {
			if _, err := net.DialTimeout("tcp4", address, 300*time.Millisecond); !timeout(err) {
				return fmt.Errorf("dial %s from wan: %v, want silence", address, err)
			}
		}
		return nil
	})
	// From the inside, the gateway's own address answers (here with a refusal), the VIP does not.
	b.client.Try(func() error {
		if _, err := net.DialTimeout("tcp4", "10.1.0.2:22", time.Second); err == nil || timeout(err) {
			return fmt.Errorf("dial the private address from lan: %v, want a refusal", err)
		}
		if _, err := net.DialTimeout("tcp4", "10.1.0.1:22", 300*time.Millisecond); !timeout(err) {
			return fmt.Errorf("dial the VIP from lan: %v, want silence", err)
		}
		return nil
	})
}

func timeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// TestMidStream sends the VIP a segment of a connection that the gateway does not know, as a server does after a
// takeover. Without rules the gateway's own TCP answers with a reset; with them nobody does.
func TestMidStream(t *testing.T) {
	b := newBench(t)
	b.gateway.Run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=1", "net.netfilter.nf_conntrack_tcp_be_liberal=1")
	if got := b.resets(t, 40001); got == 0 {
		t.Fatal("no reset without rules: the test proves nothing")
	}
	b.gateway.Try(load(t, "testdata/example.yaml").Apply)
	for _, loose := range []string{"1", "0"} {
		b.gateway.Run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose="+loose)
		if got := b.resets(t, 40002); got != 0 {
			t.Errorf("tcp_loose=%s: %d resets", loose, got)
		}
	}
}

// resets sends one ACK segment from the server to the VIP and counts the resets that come back in 300 ms.
func (b bench) resets(t *testing.T, port uint16) (count int) {
	t.Helper()
	b.server.Try(func() error {
		c, err := net.ListenIP("ip4:tcp", &net.IPAddr{IP: net.IPv4(192, 0, 2, 50)})
		if err != nil {
			return err
		}
		defer c.Close()
		vip := &net.IPAddr{IP: net.IPv4(192, 0, 2, 1)}
		if _, err := c.WriteTo(segment(port), vip); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		buf := make([]byte, 128)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return nil
			}
			const rst = 0x04
			if n >= 20 && from.String() == vip.String() && buf[13]&rst != 0 {
				count++
			}
		}
	})
	return count
}

// segment is a TCP header (RFC 9293, section 3.1) with ACK set, from 192.0.2.50:7000 to 192.0.2.1.
func segment(port uint16) []byte {
	s := make([]byte, 20)
	binary.BigEndian.PutUint16(s[0:], 7000)
	binary.BigEndian.PutUint16(s[2:], port)
	binary.BigEndian.PutUint32(s[4:], 1000)
	binary.BigEndian.PutUint32(s[8:], 2000)
	s[12], s[13] = 5<<4, 0x10
	binary.BigEndian.PutUint16(s[14:], 1024)
	pseudo := append([]byte{192, 0, 2, 50, 192, 0, 2, 1, 0, 6, 0, 20}, s...)
	var sum uint32
	for i := 0; i < len(pseudo); i += 2 {
		sum += uint32(pseudo[i])<<8 | uint32(pseudo[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(s[16:], ^uint16(sum))
	return s
}
