package main

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// TestSlowSuccessor: the successor of a planned handover takes the role 100 ms late. The switches point at the old member until then: what of existing
// connections arrives there, in both directions, is forwarded while its gate drains. Nothing is lost.
func TestSlowSuccessor(t *testing.T) {
	p := started(t)
	p.WaitSync(p.B)
	serveWho(t, p)
	c := dialMany(t, p, "udp", 1)[0]
	const every = 5 * time.Millisecond
	answers := make(chan time.Time, 1000)
	go func() {
		defer close(answers)
		buf := make([]byte, 256)
		for {
			c.conn.SetReadDeadline(time.Now().Add(time.Second))
			if _, err := c.conn.Read(buf); err != nil {
				return
			}
			answers <- time.Now()
		}
	}()
	had := p.B.Had()
	sent := 0
	for ; sent < 200; sent++ {
		switch sent {
		case 50:
			syscall.Kill(had, syscall.SIGSTOP)
			go operate(t, p.A, true, "cluster", "failover")
		case 70:
			syscall.Kill(had, syscall.SIGCONT)
		}
		if _, err := fmt.Fprintln(c.conn, sent); err != nil {
			t.Fatal(err)
		}
		time.Sleep(every)
	}
	got := 0
	for range answers {
		got++
	}
	p.WaitStates("STANDBY", "ACTIVE")
	if got != sent {
		t.Errorf("%d of %d datagrams were answered", got, sent)
	}
}
