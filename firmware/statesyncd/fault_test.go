package statesyncd

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/ha/statesync/link"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// TestEventsLost: a burst that the event socket cannot hold is noticed, and the standby has all of it in the end.
func TestEventsLost(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	a, b := l.members[0], l.members[1]
	a.env = []string{"EVENT_BUFFER=20000"}
	l.holder(1, 1)
	a.start()
	b.start()
	l.waitSync()
	a.play(flows(0, 20000)...)
	l.wait("lost events to be noticed", func() bool { return a.sync().Stats.Lost > 0 })
	l.waitEqual(a)
	l.waitSync()
	var gone []statesync.KernelOp
	for i := range 15000 {
		gone = append(gone, statesync.KernelOp{Kind: statesync.KernelDelete, Flow: flow(i)})
	}
	a.play(gone...)
	l.waitEqual(a)
	if len(b.dump()) != 5000 {
		t.Errorf("%d entries, want 5000", len(b.dump()))
	}
}

// TestRestart: a standby that was away loads what is new and removes what has ended meanwhile; so does one whose
// daemon died and left a table behind; and the holder's daemon may die too.
func TestRestart(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	a, b := l.members[0], l.members[1]
	a.play(flows(0, 2000)...)
	l.holder(1, 1)
	a.start()
	b.start()
	l.waitSync()
	l.waitEqual(a)
	b.kill()
	a.play(flows(2000, 2500)...)
	a.play(statesync.KernelOp{Kind: statesync.KernelDelete, Flow: flow(7)})
	// The same connection came back with another translated port.
	moved := flow(8)
	moved.Reply.DstPort = 60123
	a.play(statesync.KernelOp{Kind: statesync.KernelDelete, Flow: flow(8)}, create(moved))
	b.start()
	l.waitEqual(a)
	l.waitSync()
	loaded := b.sync().Stats.Loaded
	a.kill()
	l.wait("the standby to say that it is not in sync", func() bool { return !b.sync().InSync })
	a.play(flows(2500, 2600)...)
	a.start()
	l.waitEqual(a)
	l.waitSync()
	if n := b.sync().Stats.Loaded - loaded; n > 1000 {
		t.Errorf("a short absence of the holder's daemon, with 100 new entries, made %d of 2600 cross again", n)
	}
}

// TestThreeMembers: every standby follows, and after the role has moved all follow the new holder; what the old one
// says then removes nothing.
func TestThreeMembers(t *testing.T) {
	t.Parallel()
	l := started(t, 3)
	a, b := l.members[0], l.members[1]
	a.play(flows(0, 1000)...)
	l.waitEqual(a)
	if r, err := a.client().SyncBarrier(context.Background(), 2*time.Second); err != nil || !r.OK || len(r.NotInSync) != 0 {
		t.Errorf("barrier: %+v, %v", r, err)
	}
	l.holder(2, 2)
	l.wait("the new holder", func() bool { return b.sync().Holder })
	a.setRole("ACTIVE", 1, 1) // a member that does not know yet that it has lost the role
	b.play(flows(1000, 1500)...)
	var ends []statesync.KernelOp
	for i := range 100 {
		ends = append(ends, statesync.KernelOp{Kind: statesync.KernelDelete, Flow: flow(i)})
	}
	l.wait("the old holder to believe in its role", func() bool { return a.sync().Holder })
	a.play(ends...)
	time.Sleep(300 * time.Millisecond)
	if n := len(b.dump()); n != 1500 {
		t.Errorf("the new holder has %d entries, want 1500: a stale one removed some", n)
	}
	a.setRole("STANDBY", 2, 2)
	l.waitEqual(b)
	l.waitSync()
	if b.sync().Stats.Refused[statesync.StaleTerm] == 0 {
		t.Error("nothing was refused for its old term")
	}
}

// TestBadLink: loss, reordering and duplication on the sync link delay, and nothing more.
func TestBadLink(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		link badLink
	}{
		{"loss 1 %", badLink{loss: 1}}, {"loss 10 %", badLink{loss: 10}}, {"loss 30 %", badLink{loss: 30}},
		{"reordering 30 %", badLink{late: 30}}, {"duplication 30 %", badLink{twice: 30}}, {"damage 5 %", badLink{damage: 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := started(t, 2)
			a := l.members[0]
			c.link.put(l)
			for i := range 10 {
				a.play(flows(i*300, (i+1)*300)...)
				time.Sleep(20 * time.Millisecond)
			}
			a.play(statesync.KernelOp{Kind: statesync.KernelDelete, Flow: flow(3)})
			l.waitEqual(a)
			l.waitSync()
		})
	}
}

// TestOneWayLink: a sync link that carries one direction only is no way; the stream takes another.
func TestOneWayLink(t *testing.T) {
	t.Parallel()
	l := started(t, 2)
	a, b := l.members[0], l.members[1]
	a.play(flows(0, 500)...)
	l.waitEqual(a)
	badLink{deaf: true}.put(l)
	a.play(flows(500, 1000)...)
	l.wait("the stream on the LAN", func() bool {
		s := b.sync()
		return len(s.Peers) == 1 && s.Peers[0].Connected && s.Peers[0].Via == "lan"
	})
	l.waitEqual(a)
	l.waitSync()
}

// TestSyncLinkLost: the stream moves to another interface and back; a smaller MTU on one side is no matter. With
// no way left the standby says that it is not in sync.
func TestSyncLinkLost(t *testing.T) {
	t.Parallel()
	l := started(t, 2)
	a, b := l.members[0], l.members[1]
	a.play(flows(0, 500)...)
	l.waitEqual(a)
	via := func() string {
		s := b.sync()
		if len(s.Peers) == 0 || !s.Peers[0].Connected {
			return ""
		}
		return s.Peers[0].Via
	}
	l.sw.IP("link set dev sync1 down")
	l.wait("the stream on the LAN", func() bool { return via() == "lan" })
	a.play(flows(500, 1000)...)
	l.waitEqual(a)
	l.waitSync()
	l.sw.IP("link set dev lan1 down")
	l.wait("the standby to say that it is not in sync", func() bool { s := b.sync(); return !s.InSync && strings.Contains(s.Text, "no connection") })
	a.play(flows(1000, 1500)...)
	l.sw.IP("link set dev sync1 up")
	b.ns.IP("link set dev sync mtu 700") // the switch thinks 1500
	a.ns.IP("link set dev sync mtu 9000")
	l.wait("the stream on the sync link", func() bool { return via() == "sync" })
	l.waitEqual(a)
	l.waitSync()
	l.sw.IP("link set dev lan1 up")
}

// TestTableFull: a standby without room says so, keeps what it has, and recovers.
func TestTableFull(t *testing.T) {
	t.Parallel()
	l := started(t, 2)
	a, b := l.members[0], l.members[1]
	_, most := b.table.Size()
	// Connections of the standby itself: nobody may evict them for the holder's.
	var own []statesync.KernelOp
	mine, _ := statesync.AddrOf(netip.MustParseAddr("10.9.0.2"))
	local := func(i int) statesync.Flow {
		f := flow(i)
		f.Status = statesync.StatusConfirmed // not assured: the kernel evicts such ones first
		f.Orig.Src[1], f.Orig.Src[2], f.Orig.Src[3] = byte(20+i>>16), byte(i>>8), byte(i)
		f.Orig.Dst = mine
		f.Reply = f.Orig.Inverse()
		return f
	}
	room := most - most/64
	for i := range room - 500 {
		own = append(own, create(local(i)))
	}
	b.play(own...)
	before, _ := b.table.Size()
	a.play(flows(0, 3000)...)
	l.wait("the standby to say that its table is full", func() bool {
		s := b.sync()
		return s.Full && !s.InSync && strings.Contains(s.Text, "full")
	})
	after, _ := b.table.Size()
	if after < before {
		t.Errorf("%d entries before, %d after: live entries were evicted", before, after)
	}
	var ends []statesync.KernelOp
	for i := range 5000 {
		ends = append(ends, statesync.KernelOp{Kind: statesync.KernelDelete, Flow: local(i)})
	}
	b.play(ends...)
	l.waitEqual(a)
	l.waitSync()
}

// TestStopped: a standby's daemon that stands still costs nobody anything, and catches up.
func TestStopped(t *testing.T) {
	t.Parallel()
	l := started(t, 2)
	a, b := l.members[0], l.members[1]
	pid := b.cmd.Process.Pid // ip netns exec has become the daemon
	syscall.Kill(pid, syscall.SIGSTOP)
	a.play(flows(0, 5000)...)
	r, err := a.client().SyncBarrier(context.Background(), 100*time.Millisecond)
	if err != nil || r.OK || len(r.Missing) != 1 {
		t.Errorf("barrier: %+v, %v", r, err)
	}
	l.wait("the holder to give up the connection", func() bool { s := a.sync(); return len(s.Peers) == 1 && !s.Peers[0].Connected })
	syscall.Kill(pid, syscall.SIGCONT)
	l.waitEqual(a)
	l.waitSync()
}

// TestStrangers: whoever is not a member, or does not talk like one, is shown the door, with a reason; the
// kernel's table stays as it is.
func TestStrangers(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	b := l.members[1] // the other one is us
	l.holder(1, 1)
	b.start()
	l.wait("the daemon", func() bool { return b.sync().Member == 2 })
	b.play(flows(0, 10)...)
	key, _ := base64.StdEncoding.DecodeString(labKey)
	good, err := link.Config(key)
	if err != nil {
		t.Fatal(err)
	}
	key[0] ^= 1
	wrong, _ := link.Config(key)
	hello := statesync.Hello{Version: statesync.Version, Cluster: 9, Member: 1, Nonce: 1}
	bad := func(change func(*statesync.Hello)) []byte {
		h := hello
		change(&h)
		return h.Append(nil)
	}
	frame := func(t statesync.Type, payload ...byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(payload)+1))
		return append(append(b, byte(t)), payload...)
	}
	delta := func(count uint16, records ...byte) []byte {
		p := make([]byte, 25)
		p[7], p[23], p[24] = 1, 1, 1 // sequence 1, term 1, holder
		return frame(statesync.TypeDelta, append(binary.BigEndian.AppendUint16(p, count), records...)...)
	}
	cases := []struct {
		name   string
		tls    *tls.Config
		send   [][]byte
		reason string
	}{
		{"not TLS", nil, [][]byte{[]byte("GET / HTTP/1.1\r\nHost: gateway\r\n\r\n")}, "not_tls"},
		{"another cluster's key", wrong, nil, "wrong_key"},
		{"garbage instead of a hello", good, [][]byte{frame(statesync.TypeHello, []byte("this is no hello at all")...)}, "bad_hello"},
		{"a frame before the hello", good, [][]byte{delta(0)}, "out_of_order"},
		{"an old version", good, [][]byte{bad(func(h *statesync.Hello) { h.Version = 0 })}, "bad_version"},
		{"another cluster", good, [][]byte{bad(func(h *statesync.Hello) { h.Cluster = 8 })}, "other_cluster"},
		{"not a member", good, [][]byte{bad(func(h *statesync.Hello) { h.Member = 7 })}, "not_a_member"},
		{"a huge frame", good, [][]byte{hello.Append(nil), {0xff, 0xff, 0xff, 0xff, 2}}, "too_long"},
		{"an unknown type", good, [][]byte{hello.Append(nil), frame(99, 1, 2, 3)}, "bad_frame"},
		{"an absurd count", good, [][]byte{hello.Append(nil), delta(65535, make([]byte, 100)...)}, "truncated"},
		{"a record of nonsense", good, [][]byte{hello.Append(nil), delta(1, append([]byte{1, 77}, make([]byte, 60)...)...)}, "bad_record"},
		{"an entry of the loopback", good, [][]byte{hello.Append(nil), delta(1, loopback()...)}, "bad_address"},
	}
	before := b.dump()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			counted := b.sync().Sessions[c.reason]
			// Dialled from the other member's place, which is where an attacker with the cable would sit.
			l.members[0].ns.Try(func() error {
				raw, err := net.DialTimeout("tcp4", fmt.Sprintf("169.254.77.2:%d", link.Port), 3*time.Second)
				if err != nil {
					return err
				}
				defer raw.Close()
				conn := raw
				if c.tls != nil {
					conn = tls.Client(raw, c.tls)
				}
				for _, f := range c.send {
					conn.Write(f)
				}
				// The door: nothing more comes, and soon.
				raw.SetReadDeadline(time.Now().Add(8 * time.Second))
				buf := make([]byte, 4096)
				for {
					if _, err := conn.Read(buf); err != nil {
						if e, ok := err.(net.Error); ok && e.Timeout() {
							return fmt.Errorf("the connection stayed open")
						}
						return nil
					}
				}
			})
			l.wait("the reason "+c.reason+" to be counted", func() bool { return b.sync().Sessions[c.reason] > counted })
		})
	}
	if ok, why := equal(before, b.dump()); !ok {
		t.Errorf("the table has changed: %s", why)
	}
}

// TestStrangersFlood: who holds as many connections open as it gets, on both interfaces, keeps no member out.
func TestStrangersFlood(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	a, b := l.members[0], l.members[1]
	l.holder(1, 1)
	b.start()
	l.wait("the daemon", func() bool { return b.sync().Member == 2 })
	stranger := netnslab.New(t)
	for i, nic := range []string{"sync", "lan"} {
		l.sw.Run("ip", "link", "add", nic+"9", "type", "veth", "peer", "name", nic, "netns", stranger.Name)
		l.sw.Run("ip", "link", "set", nic+"9", "master", nic, "up")
		stranger.IP("link set dev " + nic + " up")
		for host := range 20 {
			stranger.IP(fmt.Sprintf("addr add %s.%d/24 dev %s", []string{"169.254.77", "10.9.0"}[i], 50+host, nic))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, net4 := range []string{"169.254.77", "10.9.0"} {
		for host := range 20 {
			wg.Go(func() {
				d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(fmt.Sprintf("%s.%d", net4, 50+host))}}
				for ctx.Err() == nil {
					var conn net.Conn
					var err error
					stranger.Do(func() { conn, err = d.DialContext(ctx, "tcp4", fmt.Sprintf("%s.2:%d", net4, link.Port)) })
					if err == nil {
						conn.SetReadDeadline(time.Now().Add(5 * time.Second))
						conn.Read(make([]byte, 1)) // until it is closed
						conn.Close()
					}
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
	}
	defer wg.Wait()
	defer cancel()
	l.wait("the flood", func() bool { return b.sync().Sessions["too_many"] > 200 })
	a.play(flows(0, 500)...)
	a.start()
	l.waitSync()
	l.waitEqual(a)
	l.sw.IP("link set dev sync1 down")
	l.wait("the stream on the LAN", func() bool {
		s := b.sync()
		return len(s.Peers) == 1 && s.Peers[0].Connected && s.Peers[0].Via == "lan"
	})
	l.waitSync()
	if n := strings.Count(b.logged(), "reason=too_many"); n > 10 {
		t.Errorf("%d lines of log for %d connections", n, b.sync().Sessions["too_many"])
	}
}

func loopback() []byte {
	f := flow(1)
	f.Orig.Src, _ = statesync.AddrOf(netip.MustParseAddr("127.0.0.1"))
	return statesync.AppendFlow(nil, statesync.OpSet, &f)
}
