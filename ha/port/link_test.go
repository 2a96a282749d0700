package port

import (
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// TestLinks: what exists, carrier lost by the other end, administratively down by another process, gone.
func TestLinks(t *testing.T) {
	a, b := netnslab.New(t), netnslab.New(t)
	a.Run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", b.Name)
	a.Run("ip", "link", "set", "v0", "up")
	b.Run("ip", "link", "set", "v1", "up")
	got := make(chan LinkState, 64)
	stop, ended := make(chan struct{}), make(chan error, 1)
	go a.Do(func() {
		ended <- Links(stop, func(l LinkState) {
			if l.Device == "v0" {
				got <- l
			}
		})
	})
	expect := func(what string, want LinkState) {
		t.Helper()
		want.Device = "v0"
		for end := time.After(5 * time.Second); ; {
			select {
			case l := <-got:
				if l == want {
					return
				}
			case <-end:
				t.Fatalf("%s: no report %+v", what, want)
			}
		}
	}
	expect("at the start", LinkState{Present: true, Up: true})
	b.Run("ip", "link", "set", "v1", "down")
	expect("other end down", LinkState{Present: true})
	b.Run("ip", "link", "set", "v1", "up")
	expect("other end up", LinkState{Present: true, Up: true})
	a.Run("ip", "link", "set", "v0", "down")
	expect("set down by another process", LinkState{Present: true})
	a.Run("ip", "link", "set", "v0", "up")
	expect("set up by another process", LinkState{Present: true, Up: true})
	a.Run("ip", "link", "del", "v0")
	expect("deleted", LinkState{})
	close(stop)
	if err := <-ended; err != nil {
		t.Errorf("Links ended with %v", err)
	}
}

func TestLinksEndWhenStopped(t *testing.T) {
	netnslab.New(t).Do(func() {
		stop := make(chan struct{})
		go func() {
			time.Sleep(50 * time.Millisecond)
			close(stop)
		}()
		if err := Links(stop, func(LinkState) {}); err != nil {
			t.Error(err)
		}
	})
}
