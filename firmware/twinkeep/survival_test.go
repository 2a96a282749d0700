package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// talk is one connection from the client to the server, which answers every line with the address it sees.
type talk struct {
	conn net.Conn
	seen string // the client as the server sees it: the outside address and port
}

// ask exchanges a line; UDP is asked again when nothing comes.
func (c *talk) ask(timeout time.Duration) (string, error) {
	end := time.Now().Add(timeout)
	_, udp := c.conn.(*net.UDPConn)
	for {
		if _, err := fmt.Fprintln(c.conn, "who am I"); err != nil {
			return "", err
		}
		wait := end
		if udp {
			wait = time.Now().Add(200 * time.Millisecond)
		}
		c.conn.SetReadDeadline(wait)
		buf := make([]byte, 256)
		n, err := c.conn.Read(buf)
		if err == nil {
			return strings.TrimSpace(string(buf[:n])), nil
		}
		if !udp || time.Now().After(end) {
			return "", err
		}
	}
}

// serveWho answers on TCP and UDP port 7777 of the server until the test ends.
func serveWho(t *testing.T, p *pair.Pair) {
	var ln net.Listener
	var pc net.PacketConn
	p.ServerNS.Try(func() (err error) {
		if ln, err = net.Listen("tcp", pair.Server+":7777"); err == nil {
			pc, err = net.ListenPacket("udp", pair.Server+":7777")
		}
		return err
	})
	t.Cleanup(func() { ln.Close(); pc.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				for s := bufio.NewScanner(c); s.Scan(); {
					fmt.Fprintln(c, c.RemoteAddr())
				}
			}()
		}
	}()
	go func() {
		buf := make([]byte, 256)
		for {
			_, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo([]byte(from.String()+"\n"), from)
		}
	}()
}

// dialMany opens connections through the pair.
func dialMany(t *testing.T, p *pair.Pair, network string, n int) (out []*talk) {
	t.Helper()
	for range n {
		c := &talk{}
		p.ClientNS.Try(func() (err error) {
			c.conn, err = net.DialTimeout(network, pair.Server+":7777", 5*time.Second)
			return err
		})
		t.Cleanup(func() { c.conn.Close() })
		var err error
		if c.seen, err = c.ask(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func syncOf(m *pair.Member) (s api.SyncStatus) {
	m.Request("GET", api.StatesyncdSocket, "/v1/status", &s)
	return s
}

// TestConnectionsSurvive: with random outside ports, TCP and UDP connections through the pair go on over a sudden death
// of the active member and over a planned handover, from the same outside address and port.
func TestConnectionsSurvive(t *testing.T) {
	p := pair.NewPair(t, binary)
	p.StartBoth()
	serveWho(t, p)
	inSync := func() bool { return syncOf(p.A).InSync && syncOf(p.B).InSync }
	p.Wait("both members to be in sync", inSync)
	talks := append(dialMany(t, p, "tcp", 60), dialMany(t, p, "udp", 60)...)
	check := func(event string) {
		t.Helper()
		lost := 0
		for i, c := range talks {
			seen, err := c.ask(10 * time.Second)
			if err != nil || seen != c.seen {
				if lost++; lost < 4 {
					t.Errorf("%s: connection %d: %q, was %q: %v", event, i, seen, c.seen, err)
				}
			}
		}
		t.Logf("%s: %d of %d connections survive with their outside port", event, len(talks)-lost, len(talks))
	}
	r, err := api.NewClient(p.A.Run()).SyncBarrier(context.Background(), time.Second)
	if err != nil || !r.OK || len(r.NotInSync) > 0 {
		t.Fatalf("barrier: %+v, %v", r, err)
	}
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	check("sudden death")
	// It comes back with an empty table, as after a power cut, and gets everything.
	exec.Command("ip", "netns", "exec", p.A.NS.Name, "conntrack", "-F").Run()
	p.A.Start()
	p.WaitStates("STANDBY", "ACTIVE")
	p.Wait("the returned member to be in sync", inSync)
	p.WaitSync(p.A)
	if _, err := api.NewClient(p.B.Run()).Deactivate(context.Background()); err != nil {
		t.Fatal(err)
	}
	p.WaitStates("ACTIVE", "STANDBY")
	check("planned handover")
}
