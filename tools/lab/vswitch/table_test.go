package vswitch

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/twinkeep/twinkeep/tools/lab/ether"
)

var (
	macA  = ether.MAC{0x52, 0x54, 0, 0, 0, 0xa}
	macB  = ether.MAC{0x52, 0x54, 0, 0, 0, 0xb}
	macC  = ether.MAC{0x52, 0x54, 0, 0, 0, 0xc}
	vmac  = ether.MAC{0x10, 0, 0, 0, 0x15, 7}
	beat  = ether.MAC{0x11, 0, 0, 0, 0x15, 7}
	bcast = ether.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	t0    = time.Unix(1795350000, 0)
)

func frame(dst, src ether.MAC) []byte {
	return append(ether.Header(dst, src, 0x88b5), make([]byte, 46)...)
}

func TestForward(t *testing.T) {
	type step struct {
		at    time.Duration
		in    int
		frame []byte
		flush bool // of port in, instead of a frame
		want  Decision
	}
	ports := []int{0, 1, 2}
	for _, tt := range []struct {
		name  string
		age   time.Duration
		limit int
		steps []step
	}{
		{"unknown unicast is flooded, then learned", 0, 0, []step{
			{0, 0, frame(macB, macA), false, Decision{Verdict: Flooded, Out: []int{1, 2}}},
			{0, 1, frame(macA, macB), false, Decision{Verdict: Forwarded, Out: []int{0}}},
			{0, 0, frame(macB, macA), false, Decision{Verdict: Forwarded, Out: []int{1}}},
		}},
		{"group addresses are always flooded", 0, 0, []step{
			{0, 1, frame(bcast, macB), false, Decision{Verdict: Flooded, Out: []int{0, 2}}},
			{0, 1, frame(beat, macB), false, Decision{Verdict: Flooded, Out: []int{0, 2}}},
		}},
		{"a move is followed at once", 0, 0, []step{
			{0, 0, frame(bcast, vmac), false, Decision{Verdict: Flooded, Out: []int{1, 2}}},
			{time.Second, 1, frame(bcast, vmac), false, Decision{Verdict: Flooded, Out: []int{0, 2},
				Move: &Move{MAC: vmac, From: 0, To: 1, At: t0.Add(time.Second)}}},
			{time.Second, 2, frame(vmac, macC), false, Decision{Verdict: Forwarded, Out: []int{1}}},
		}},
		{"a station on the same port needs no forwarding", 0, 0, []step{
			{0, 0, frame(bcast, macA), false, Decision{Verdict: Flooded, Out: []int{1, 2}}},
			{0, 0, frame(macA, macB), false, Decision{Verdict: Local}},
		}},
		{"a silent station is forgotten", 10 * time.Second, 0, []step{
			{0, 0, frame(bcast, macA), false, Decision{Verdict: Flooded, Out: []int{1, 2}}},
			{9 * time.Second, 1, frame(macA, macB), false, Decision{Verdict: Forwarded, Out: []int{0}}},
			{10 * time.Second, 1, frame(macA, macB), false, Decision{Verdict: Flooded, Out: []int{0, 2}}},
			{20 * time.Second, 2, frame(bcast, macB), false, Decision{Verdict: Flooded, Out: []int{0, 1}}}, // no move
		}},
		{"a full table learns no more, until somebody is forgotten", time.Minute, 1, []step{
			{0, 0, frame(bcast, macA), false, Decision{Verdict: Flooded, Out: []int{1, 2}}},
			{0, 1, frame(bcast, macB), false, Decision{Verdict: Flooded, Out: []int{0, 2}}},
			{0, 2, frame(macB, macC), false, Decision{Verdict: Flooded, Out: []int{0, 1}}},
			{2 * time.Minute, 1, frame(bcast, macB), false, Decision{Verdict: Flooded, Out: []int{0, 2}}},
			{2 * time.Minute, 2, frame(macB, macC), false, Decision{Verdict: Forwarded, Out: []int{1}}},
		}},
		{"a port that lost its link is forgotten", 0, 0, []step{
			{0, 0, frame(bcast, macA), false, Decision{Verdict: Flooded, Out: []int{1, 2}}},
			{0, 0, nil, true, Decision{}},
			{0, 1, frame(macA, macB), false, Decision{Verdict: Flooded, Out: []int{0, 2}}},
		}},
		{"frames that no bridge forwards", 0, 0, []step{
			{0, 0, []byte{1, 2, 3}, false, Decision{Verdict: Runt}},
			{0, 0, frame(macB, beat), false, Decision{Verdict: BadSource}},
			{0, 0, frame(ether.MAC{1, 0x80, 0xc2, 0, 0, 0x0e}, macA), false, Decision{Verdict: Reserved}},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tab := NewTable(tt.age, tt.limit)
			for i, s := range tt.steps {
				if s.flush {
					tab.Flush(s.in)
					continue
				}
				got := tab.Forward(s.frame, s.in, ports, t0.Add(s.at))
				if diff := cmp.Diff(s.want, got); diff != "" {
					t.Errorf("step %d: %s", i, diff)
				}
			}
		})
	}
}

func TestForwardSkipsPortsWithoutStation(t *testing.T) {
	tab := NewTable(0, 0)
	tab.Forward(frame(bcast, macA), 0, []int{0, 1, 2}, t0)
	got := tab.Forward(frame(macA, macB), 1, []int{1, 2}, t0)
	if diff := cmp.Diff(Decision{Verdict: Flooded, Out: []int{2}}, got); diff != "" {
		t.Error(diff)
	}
}
