package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/api"
)

// TestPeerQuestions: without a policy, too, a member asks another one about its box, over the sync interface and, when
// that is cut, over the LAN.
func TestPeerQuestions(t *testing.T) {
	p := started(t)
	c := api.NewClient(p.A.Run())
	for _, way := range []string{"sync", "lan"} {
		if h, err := c.PeerHardware(t.Context(), "gw-b"); err != nil || h.Cores == 0 {
			t.Errorf("by %s: %+v, %v", way, h, err)
		}
		if s, err := c.PeerStatus(t.Context(), "2"); err != nil || s.Member != 2 || s.State != "STANDBY" {
			t.Errorf("by %s: member %d, %s, %v", way, s.Member, s.State, err)
		}
		p.Switch.Run("ip", "link", "set", "sync", "down")
	}
	var e *api.Error
	if _, err := c.PeerHardware(t.Context(), "gw-z"); !errors.As(err, &e) || e.Status != 404 {
		t.Errorf("a member that is not: %v", err)
	}
	p.B.Kill()
	if _, err := c.PeerHardware(t.Context(), "gw-b"); !errors.As(err, &e) || e.Status != 502 || !strings.Contains(e.Message, "unreachable") {
		t.Errorf("a member that is dead: %v", err)
	}
}
