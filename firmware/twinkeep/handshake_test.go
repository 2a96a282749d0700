package main

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab/pair"
)

// TestStaleHandshake: a connection that was half open when the active member died does not stand in the way of one that the
// client begins anew from the same port.
func TestStaleHandshake(t *testing.T) {
	p := pair.NewPair(t, binary)
	p.StartBoth()
	serveWho(t, p)
	p.Wait("both members to be in sync", func() bool { return syncOf(p.A).InSync && syncOf(p.B).InSync })
	dial := func() (c *talk) {
		t.Helper()
		c = &talk{}
		p.ClientNS.Try(func() (err error) {
			d := net.Dialer{Timeout: 15 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(pair.Client), Port: 45000}}
			c.conn, err = d.Dial("tcp4", pair.Server+":7777")
			return err
		})
		return c
	}
	// Nothing but the SYN leaves the client: neither what ends the handshake nor the reset.
	p.ClientNS.Run("nft", "add table ip lost; add chain ip lost out { type filter hook output priority 0; }; add rule ip lost out tcp dport 7777 tcp flags & syn == 0 drop")
	half := dial()
	p.Wait("the half open connection at the standby", func() bool {
		out, _ := exec.Command("ip", "netns", "exec", p.B.NS.Name, "conntrack", "-L", "-p", "tcp", "--sport", "45000").Output()
		return strings.Contains(string(out), "SYN_RECV")
	})
	half.conn.(*net.TCPConn).SetLinger(0)
	half.conn.Close()
	p.A.Kill()
	p.WaitStates("", "ACTIVE")
	p.ClientNS.Run("nft", "delete", "table", "ip", "lost")
	began := time.Now()
	again := dial()
	defer again.conn.Close()
	seen, err := again.ask(10 * time.Second)
	if err != nil || !strings.HasPrefix(seen, pair.WANVIP+":") {
		t.Errorf("the server sees %q: %v", seen, err)
	}
	t.Logf("connected after %v", time.Since(began).Round(time.Millisecond))
}
