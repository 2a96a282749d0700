package main

import (
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
)

// TestSyncState: a standby that is not in sync, or of whose state nobody speaks any more, is not handed the role.
func TestSyncState(t *testing.T) {
	p := started(t)
	b := api.NewClient(p.B.Run())
	say := func(in bool, text string) {
		t.Helper()
		if _, err := b.ReportSync(context.Background(), api.SyncReport{InSync: in, Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	inSync := func() bool { return p.A.Status().Peers[0].InSync }
	// The state replication of b stands still; the test speaks in its place.
	syscall.Kill(p.B.Process("statesyncd"), syscall.SIGSTOP)
	say(false, "full sync: 40 %")
	p.Wait("a to know", func() bool { return !inSync() })
	operate(t, p.A, false, "ha", "-deactivate")
	say(true, "")
	p.Wait("a to know", inSync)
	began := time.Now()
	p.Wait("silence to count", func() bool { return !inSync() })
	if d := time.Since(began); d < 2*time.Second {
		t.Errorf("not in sync after %v of silence", d)
	}
	p.Wait("the reason in the log", func() bool {
		return strings.Contains(p.B.Log(), "not in sync: the state replication has not reported for 3s")
	})
	say(true, "")
	p.Wait("a to know", inSync)
	operate(t, p.A, true, "ha", "-deactivate")
	p.WaitStates("STANDBY", "ACTIVE")
	if _, err := b.ReportSync(context.Background(), api.SyncReport{Text: strings.Repeat("x", 201)}); err == nil {
		t.Error("a text without end is taken")
	}
}

// TestLockdownReport: a device in lockdown forbids the role, even when nobody else is there.
func TestLockdownReport(t *testing.T) {
	p := started(t)
	lockdown := func(m string, c *api.Client, state string) {
		t.Helper()
		if _, err := c.ReportDevice(context.Background(), "licence", api.DeviceReport{State: state, Text: "the demo is over"}); err != nil {
			t.Fatal(m, err)
		}
	}
	a, b := api.NewClient(p.A.Run()), api.NewClient(p.B.Run())
	lockdown("a", a, "lockdown")
	p.WaitStates("DOWN", "ACTIVE")
	lockdown("b", b, "lockdown")
	p.WaitStates("DOWN", "DOWN")
	stop := p.Watch()
	time.Sleep(500 * time.Millisecond)
	if seen := stop(); len(seen) > 0 || p.B.Status().Gate.Open || !slices.Contains(p.B.Status().Problems, "licence: the demo is over") {
		t.Errorf("%d frames, %+v", len(seen), p.B.Status().Problems)
	}
	lockdown("b", b, "ok")
	p.WaitStates("DOWN", "ACTIVE")
}
