package sim

import (
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
)

// TestRecordingOfTheDead: whoever plays a dead member's heartbeats again cannot keep it alive.
func TestRecordingOfTheDead(t *testing.T) {
	w := settled(t, 2)
	n := w.Node(1)
	n.tape = &tape{}
	w.Run(time.Second)
	n.PowerCut()
	for range 30 {
		w.After(0, func() { w.replay(n) })
		w.Run(timing.Beat)
	}
	expect(t, w, "LOST ACTIVE", 2)
}

// TestRecordingOfAnEndedBoot: heartbeats of a boot that ended a moment ago, in which the member was active, do not
// unseat its successor, though they echo what that sent a moment ago.
func TestRecordingOfAnEndedBoot(t *testing.T) {
	w := settled(t, 2)
	n := w.Node(1)
	n.tape = &tape{}
	w.Run(100 * time.Millisecond)
	recorded := n.tape.frames
	n.PowerCut()
	w.Run(timing.Dead + 2*time.Millisecond)
	n.Boot()
	w.Run(5 * timing.Beat)
	expect(t, w, "STANDBY ACTIVE", 2)
	n.tape.frames = recorded
	w.replay(n)
	w.Run(timing.Beat)
	expect(t, w, "STANDBY ACTIVE", 2)
	w.Run(time.Second)
	expect(t, w, "STANDBY ACTIVE", 2)
}

// TestSlowInterface: what arrives late by one interface is old news, and undoes nothing that was heard by another.
func TestSlowInterface(t *testing.T) {
	w := settled(t, 2)
	w.Inject(Fault{At: Span(w.Now), For: Span(10 * time.Second), Kind: Delay, Value: 0.5, Interface: 0})
	w.Run(time.Second)
	w.Node(1).Input(cluster.Deactivate{})
	w.Run(timing.Beat)
	expect(t, w, "STANDBY ACTIVE", 2)
	took := w.Node(2).Machine.Since()
	w.Run(time.Second)
	expect(t, w, "STANDBY ACTIVE", 2)
	if w.Node(2).Machine.Since() != took || logged(w.Node(2), cluster.EvBothActive) {
		t.Error("the successor was in doubt")
	}
}
