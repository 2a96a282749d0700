package gatewayd

import (
	"context"
	"errors"
	"log"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ti-mo/conntrack"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// offloaded counts the connections in flowtables.
func offloaded(t *testing.T) (n int) {
	t.Helper()
	c, err := conntrack.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	flows, err := c.Dump(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flows {
		if f.Status.Value&conntrack.StatusOffload != 0 {
			n++
		}
	}
	return n
}

// passes reports whether a datagram gets from one socket to the other.
func passes(t *testing.T, from, to net.Conn) bool {
	t.Helper()
	to.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := from.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_, err := to.Read(make([]byte, 8))
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return err == nil
}

// TestLockdownEndsFlows: in lockdown nothing passes that was established before, in a flowtable or not; after it the same connection goes on. There is no
// gate here: hosts use the addresses of the box itself, as they can beside the VIPs of a pair.
func TestLockdownEndsFlows(t *testing.T) {
	needNamespace(t)
	host, server := netnslab.New(t), netnslab.New(t)
	for device, far := range map[string]*netnslab.NS{"G1": host, "G2": server} {
		run(t, "ip link add "+device+" type veth peer name eth0 netns "+far.Name)
		far.IP("link set eth0 up")
	}
	host.IP("addr add 10.1.0.50/24 dev eth0")
	host.IP("route add default via 10.1.0.2")
	server.IP("addr add 192.0.2.50/24 dev eth0")
	server.IP("route add default via 192.0.2.2")

	config, runDir, ctx := t.TempDir(), t.TempDir(), context.Background()
	file := "version: 1\nhostname: gw\ninterfaces:\n  - {name: G1, zone: lan, address: 10.1.0.2/24}\n  - {name: G2, zone: wan, address: 192.0.2.2/24}\n"
	if err := os.WriteFile(filepath.Join(config, "node.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	running, cancel := context.WithCancel(ctx)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- Run(running, Options{ConfigDir: config, StateDir: t.TempDir(), RunDir: runDir, Keys: licenceRing(),
			Ready: func() { close(ready) }, Log: log.New(t.Output(), "gatewayd: ", 0)})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		run(t, "ip link del G1")
		run(t, "ip link del G2")
		run(t, "nft delete table inet twinkeep")
		run(t, "sysctl -qw net.ipv4.ip_forward=0")
	})
	<-ready
	c := api.NewClient(runDir)

	// The server answers whom it hears first: that is the outside address and port.
	var inside, outside net.Conn
	var in net.PacketConn
	server.Try(func() (err error) { in, err = net.ListenPacket("udp4", "192.0.2.50:7000"); return err })
	host.Try(func() (err error) { outside, err = net.Dial("udp4", "192.0.2.50:7000"); return err })
	t.Cleanup(func() { in.Close(); outside.Close() })
	if _, err := outside.Write([]byte("first")); err != nil {
		t.Fatal(err)
	}
	in.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, from, err := in.ReadFrom(make([]byte, 8))
	if err != nil {
		t.Fatal(err)
	}
	inside = peerConn{in, from}
	for range 10 {
		if !passes(t, inside, outside) || !passes(t, outside, inside) {
			t.Fatal("the connection is not there")
		}
	}
	fast := offloaded(t)
	t.Logf("%d connections in the flowtable", fast)

	if _, err := c.InstallLicence(ctx, licenceFor("52:54:00:77:77:77"), true); err != nil {
		t.Fatal(err)
	}
	state(t, c, "lockdown")
	if passes(t, outside, inside) || passes(t, inside, outside) {
		t.Error("a connection passes the lockdown")
	}
	if n := offloaded(t); n != 0 {
		t.Errorf("in lockdown %d connections are in a flowtable", n)
	}
	// What brings rules in meanwhile does not bring the fast path back.
	if _, err := c.ReloadNode(ctx); err != nil {
		t.Fatal(err)
	}
	if passes(t, outside, inside) || passes(t, inside, outside) || offloaded(t) != 0 {
		t.Error("after a reload a connection passes the lockdown")
	}
	if _, err := c.RemoveLicence(ctx, true); err != nil {
		t.Fatal(err)
	}
	state(t, c, "demo")
	for range 10 {
		if !passes(t, outside, inside) || !passes(t, inside, outside) {
			t.Fatal("after the lockdown the connection does not go on")
		}
	}
	if n := offloaded(t); n != fast {
		t.Errorf("after the lockdown %d connections are in the flowtable, want %d", n, fast)
	}
	if fast == 0 {
		t.Log("this kernel has no flowtable: only the ordinary way was tried (make test-flowtable tries the other)")
	}
}

// peerConn is a socket that talks with one address.
type peerConn struct {
	net.PacketConn
	peer net.Addr
}

func (p peerConn) RemoteAddr() net.Addr             { return p.peer }
func (p peerConn) Write(b []byte) (int, error)      { return p.WriteTo(b, p.peer) }
func (p peerConn) Read(b []byte) (n int, err error) { n, _, err = p.ReadFrom(b); return n, err }
