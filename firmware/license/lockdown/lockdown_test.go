package lockdown

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/tools/netnslab"
)

const quick = 500 * time.Millisecond

// dial connects from a namespace; marked as what may pass in lockdown.
func dial(ns *netnslab.NS, network, address string, marked bool) (err error) {
	ns.Do(func() {
		d := net.Dialer{Timeout: quick}
		if marked {
			d.Control = func(_, _ string, c syscall.RawConn) error {
				var set error
				err := c.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, Mark) })
				return errors.Join(err, set)
			}
		}
		var conn net.Conn
		if conn, err = d.Dial(network, address); err == nil {
			conn.Close()
		}
	})
	return err
}

func listen(t *testing.T, ns *netnslab.NS, address string) {
	t.Helper()
	ns.Try(func() error {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		return nil
	})
}

func pings(ns *netnslab.NS, address string) bool {
	return exec.Command("ip", "netns", "exec", ns.Name, "ping", "-c1", "-W1", address).Run() == nil
}

// TestWhatPasses: a client, the gateway, a server behind it; all that works without lockdown, and in it only management.
func TestWhatPasses(t *testing.T) {
	client, gw, server := netnslab.New(t), netnslab.New(t), netnslab.New(t)
	gw.Run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", client.Name)
	gw.Run("ip", "link", "add", "wan", "type", "veth", "peer", "name", "eth0", "netns", server.Name)
	for _, c := range []struct{ ns, commands string }{
		{gw.Name, "addr add 10.1.0.2/24 dev lan; addr add 10.1.0.3/24 dev lan; addr add 2001:db8::2/64 dev lan nodad; addr add 192.0.2.2/24 dev wan; link set lan up; link set wan up"},
		{client.Name, "addr add 10.1.0.10/24 dev eth0; addr add 2001:db8::10/64 dev eth0 nodad; link set eth0 up; route add default via 10.1.0.2"},
		{server.Name, "addr add 192.0.2.10/24 dev eth0; link set eth0 up; route add default via 192.0.2.2"},
	} {
		for command := range strings.SplitSeq(c.commands, "; ") {
			netnslab.Run(t, append([]string{"ip", "-n", c.ns}, strings.Fields(command)...)...)
		}
	}
	gw.Do(func() { os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	for _, a := range []string{"10.1.0.2:22", "10.1.0.2:2222", "10.1.0.2:80", "10.1.0.3:22", "[2001:db8::2]:443", "[2001:db8::2]:80", "127.0.0.1:80"} {
		listen(t, gw, a)
	}
	listen(t, server, "192.0.2.10:80")
	stale := func(ns *netnslab.NS) { // neighbours have to be found anew, in lockdown too
		ns.Run("ip", "neigh", "flush", "all")
	}
	check := func(locked bool) {
		t.Helper()
		for _, ns := range []*netnslab.NS{client, gw, server} {
			stale(ns)
		}
		for _, tt := range []struct {
			what   string
			works  bool
			inside bool // also in lockdown
		}{
			{"SSH on the management address", dial(client, "tcp", "10.1.0.2:22", false) == nil, true},
			{"API over IPv6", dial(client, "tcp", "[2001:db8::2]:443", false) == nil, true},
			{"loopback", dial(gw, "tcp", "127.0.0.1:80", false) == nil, true},
			{"the licence server", dial(gw, "tcp", "192.0.2.10:80", true) == nil, true},
			{"SSH on another address", dial(client, "tcp", "10.1.0.3:22", false) == nil, false},
			{"another port", dial(client, "tcp", "10.1.0.2:80", false) == nil, false},
			{"another port over IPv6", dial(client, "tcp", "[2001:db8::2]:80", false) == nil, false},
			{"ping", pings(client, "10.1.0.2"), false},
			{"forwarded ping", pings(client, "192.0.2.10"), false},
			{"forwarded TCP", dial(client, "tcp", "192.0.2.10:80", false) == nil, false},
			{"connections of the box", dial(gw, "tcp", "192.0.2.10:80", false) == nil, false},
		} {
			if want := !locked || tt.inside; tt.works != want {
				t.Errorf("lockdown %v: %s works: %v", locked, tt.what, tt.works)
			}
		}
		var present bool
		gw.Try(func() (err error) { present, err = Present(); return err })
		if present != locked {
			t.Errorf("lockdown %v, the table is there: %v", locked, present)
		}
	}
	ports := []uint16{22, 443}
	table := Table{Ports: func() []uint16 { return ports }, Management: func() []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("2001:db8::2")}
	}}
	set := func(on bool) { gw.Try(func() error { return table.Lockdown(context.Background(), on) }) }
	check(false)
	set(false) // nothing to take out is no error
	check(false)
	set(true)
	set(true)
	check(true)
	if list := gw.Run("nft", "list", "table", "inet", TableName); !strings.Contains(list, "type filter hook forward priority mangle; policy drop;") {
		t.Errorf("table:\n%s", list)
	} else {
		t.Logf("\n%s", list)
	}
	for _, port := range []uint16{2222, 0, 443} {
		if ports = []uint16{port}; port == 0 {
			ports = nil
		}
		set(true)
		for _, a := range []string{"10.1.0.2:22", "10.1.0.2:2222"} {
			if works, want := dial(client, "tcp", a, false) == nil, a == fmt.Sprintf("10.1.0.2:%d", port); works != want {
				t.Errorf("SSH is at port %d; %s works: %v", port, a, works)
			}
		}
	}
	set(false)
	check(false)
}
