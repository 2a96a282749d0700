package ruleset

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/twinkeep/twinkeep/firmware/policy"
	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

const pairFile = "testdata/policy/pair.yaml"

// rulesOf gives the rules of a policy, changed by replacing texts, for member 1.
func rulesOf(t *testing.T, file string, replace ...string) *rules.Rules {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := policy.Parse(file, []byte(strings.NewReplacer(replace...).Replace(string(data))))
	if err != nil {
		t.Fatal(err)
	}
	m, err := p.ForMember(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m.Rules
}

// connection is a TCP connection from outside to the server behind DNAT.
func (b bench) connection(t *testing.T) (outside, inside net.Conn) {
	t.Helper()
	var l net.Listener
	b.client.Try(func() (err error) { l, err = net.Listen("tcp4", "10.1.0.50:8443"); return err })
	defer l.Close()
	b.server.Try(func() (err error) { outside, err = net.DialTimeout("tcp4", "192.0.2.1:443", 2*time.Second); return err })
	inside, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outside.Close(); inside.Close() })
	return outside, inside
}

func says(from, to net.Conn, what string) error {
	from.SetDeadline(time.Now().Add(3 * time.Second))
	to.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := from.Write([]byte(what)); err != nil {
		return err
	}
	buf := make([]byte, 64)
	n, err := to.Read(buf)
	if err != nil || string(buf[:n]) != what {
		return fmt.Errorf("%q arrived, %w", buf[:n], err)
	}
	return nil
}

// forget empties the gateway's connection table: it is now a member that takes over and has been told nothing.
func (b bench) forget() {
	b.gateway.Try(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
}

func (b bench) loose() {
	b.gateway.Run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_loose=1", "net.netfilter.nf_conntrack_tcp_be_liberal=1")
}

// TestUnknownConnections: connections that a new active member has never heard of go on, whoever speaks first, where the
// policy lets him speak.
func TestUnknownConnections(t *testing.T) {
	b := newBench(t)
	b.gateway.Try(Compile(rulesOf(t, pairFile, "service: [tcp/7000]", "service: [tcp]")).Apply)
	b.loose()
	outside, inside := b.connection(t)
	if err := says(outside, inside, "hello"); err != nil {
		t.Fatal(err)
	}
	for _, first := range []string{"the client", "the server"} {
		b.forget()
		a, z := outside, inside
		if first == "the server" {
			a, z = inside, outside
		}
		for range 2 {
			if err := says(a, z, "after the takeover"); err != nil {
				t.Errorf("%s speaks first: %v", first, err)
			}
			a, z = z, a
		}
	}
}

// TestRejectSparesConnections: reject answers the first segment of a connection and no other.
func TestRejectSparesConnections(t *testing.T) {
	b := newBench(t)
	b.gateway.Try(Compile(rulesOf(t, pairFile)).Apply)
	b.loose()
	b.server.IP("route add 10.1.0.0/24 via 192.0.2.2")
	b.server.Try(func() error {
		_, err := net.DialTimeout("tcp4", "10.1.0.50:81", time.Second)
		if err == nil || timeout(err) {
			return fmt.Errorf("a new connection: %v, want a refusal", err)
		}
		return nil
	})
	b.server.Try(func() error {
		c, err := net.ListenIP("ip4:tcp", &net.IPAddr{IP: net.IPv4(192, 0, 2, 50)})
		if err != nil {
			return err
		}
		defer c.Close()
		s := segment(40003)
		sum := binary.BigEndian.Uint16(s[16:]) // for 192.0.2.1; now for 10.1.0.50
		binary.BigEndian.PutUint16(s[16:], adjust(sum, []uint16{0xc000, 0x0201}, []uint16{0x0a01, 0x0032}))
		if _, err := c.WriteTo(s, &net.IPAddr{IP: net.IPv4(10, 1, 0, 50)}); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		buf := make([]byte, 128)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return nil
			}
			if n >= 20 && from.String() == "10.1.0.50" {
				t.Errorf("answer to a segment from the middle: flags %#x", buf[13])
			}
		}
	})
}

// adjust changes a checksum from old words to new ones (RFC 1624).
func adjust(sum uint16, old, now []uint16) uint16 {
	acc := uint32(^sum)
	for i := range old {
		acc += uint32(^old[i]) + uint32(now[i])
	}
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return ^uint16(acc)
}

// datagrams sends n UDP packets, each of a connection of its own, and counts those that reach 192.0.2.50.
func (b bench) datagrams(t *testing.T, n int, pause time.Duration) int {
	t.Helper()
	var l net.PacketConn
	b.server.Try(func() (err error) { l, err = net.ListenPacket("udp4", "192.0.2.50:7000"); return err })
	defer l.Close()
	got := make(chan int)
	go func() {
		count, buf := 0, make([]byte, 8)
		for count < n {
			if _, _, err := l.ReadFrom(buf); err != nil {
				break
			}
			count++
		}
		got <- count
	}()
	b.client.Try(func() error {
		for range n {
			c, err := net.Dial("udp4", "192.0.2.50:7000")
			if err != nil {
				return err
			}
			_, err = c.Write([]byte("x"))
			c.Close()
			if err != nil {
				return err
			}
			time.Sleep(pause)
		}
		return nil
	})
	l.SetReadDeadline(time.Now().Add(time.Second))
	return <-got
}

// TestReload: new rules come in without a moment in which new connections are lost, and the counters go on, those of
// elements of sets too, also when the rules around them change.
func TestReload(t *testing.T) {
	b := newBench(t)
	b.gateway.Try(Compile(rulesOf(t, pairFile)).Apply)
	stop, done := make(chan struct{}), sync.WaitGroup{}
	var reloads atomic.Int32
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				// Rules come before and behind, the folded run grows, its set gets another name.
				with := []string{"    - {name: b,", "    - {name: more, from: [lan], to: [wan], destination: [192.0.2.99], service: [udp/9], action: accept}\n    - {name: b,"}
				if reloads.Load()%2 == 0 {
					with = append(with, "  rules:\n", "  rules:\n    - {name: ahead, from: [wan], source: [192.0.2.77], action: drop}\n")
				}
				b.gateway.Try(Compile(rulesOf(t, pairFile, with...)).Apply)
				reloads.Add(1)
			}
		}
	})
	const n = 200
	for reloads.Load() < 20 {
		if got := b.datagrams(t, n, time.Millisecond); got != n {
			t.Errorf("%d of %d new connections got through while the rules were reloaded %d times", got, n, reloads.Load())
			break
		}
	}
	close(stop)
	done.Wait()
	b.gateway.Try(Compile(rulesOf(t, pairFile)).Apply)
	b.forget() // a port that is used again would be no new connection
	before, translated := b.count(t, "filter/a"), b.count(t, "nat/out")
	b.datagrams(t, 50, 0)
	b.gateway.Try(Compile(rulesOf(t, pairFile, "  rules:\n", "  rules:\n    - {name: ahead, from: [wan], source: [192.0.2.77], action: drop}\n")).Apply)
	b.gateway.Try(Compile(rulesOf(t, pairFile)).Apply)
	if a, out := b.count(t, "filter/a"), b.count(t, "nat/out"); a != before+50 || out != translated+50 {
		t.Errorf("filter/a counts %d, want %d; nat/out %d, want %d", a, before+50, out, translated+50)
	}
	b.gateway.Try(Compile(rulesOf(t, pairFile, "name: a,", "name: z,")).Apply)
	if z := b.count(t, "filter/z"); z != 0 {
		t.Errorf("a rule with a new name begins with %d", z)
	}
}

func (b bench) count(t *testing.T, id string) (packets uint64) {
	t.Helper()
	b.gateway.Try(func() error {
		c, err := ReadCounters()
		packets = c.ByRule()[id].Packets
		return err
	})
	return packets
}

// TestClosed: what a box starts with lets nothing in or through; it is not put over rules that are in force.
func TestClosed(t *testing.T) {
	b := newBench(t)
	ensure := func(want bool) {
		t.Helper()
		b.gateway.Try(func() error {
			did, err := EnsureClosed()
			if did != want {
				t.Errorf("EnsureClosed: %t, want %t", did, want)
			}
			return err
		})
	}
	ensure(true)
	for address, ns := range map[string]*netnslab.NS{"192.0.2.50:7000": b.client, "10.1.0.2:22": b.client, "192.0.2.2:22": b.server} {
		ns.Try(func() error {
			if _, err := net.DialTimeout("tcp4", address, 300*time.Millisecond); !timeout(err) {
				return fmt.Errorf("dial %s: %v, want silence", address, err)
			}
			return nil
		})
	}
	b.gateway.Try(Compile(rulesOf(t, pairFile)).Apply)
	ensure(false)
	if n := b.datagrams(t, 5, 0); n != 5 {
		t.Errorf("%d of 5 got through: EnsureClosed has replaced the rules", n)
	}
}
