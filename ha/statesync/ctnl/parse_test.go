package ctnl

import (
	"encoding/hex"
	"testing"

	"github.com/twinkeep/twinkeep/ha/statesync"
)

// captured is an event of Linux 6.18: a TCP connection that is ESTABLISHED, with SNAT to 192.0.2.1:55555.
const captured = "e800000000010000000000006045a6ab020000003400018014000180080001000a01000a08000200c000020a1c00028005000100060000000600" +
	"02009c4000000600030000500000340002801400018008000100c000020a08000200c00002011c00028005000100060000000600020000500000" +
	"06000300d903000008000c0054660665080003000000019e080007000006977f300004802c000180050001000300000005000200070000000500" +
	"030009000000060004000b000000060005000b0000001c0018800800010000000000080002000000000008000300000000000800080000000007"

// TestCaptured reads what a kernel said.
func TestCaptured(t *testing.T) {
	b, err := hex.DecodeString(captured)
	if err != nil {
		t.Fatal(err)
	}
	m, rest, err := nextMessage(b)
	if err != nil || len(rest) != 0 {
		t.Fatal(err, len(rest))
	}
	var e statesync.Event
	if ok, err := parseEvent(&m, &e); !ok || err != nil {
		t.Fatal(ok, err)
	}
	f := e.Flow
	want := flows()[0].flow
	if e.Kind != statesync.EventUpdate || f.Orig != want.Orig || f.Reply != want.Reply || f.Status != 0x19e || f.Timeout != 431999 || f.TCP.State != 3 || f.TCP.Flags != [2]uint8{0xb, 0xb} || f.TCP.Scale != want.TCP.Scale || f.Mark != 7 {
		t.Errorf("%+v", e)
	}
}

// TestOffloaded: an entry in a flow table has no timeout and no state.
func TestOffloaded(t *testing.T) {
	var w builder
	f := flows()[0].flow
	at := w.message(msgNew, 0, 1, f.Family)
	w.tuple(ctaTupleOrig, f.Family, &f.Orig, nil, 0)
	w.tuple(ctaTupleReply, f.Family, &f.Reply, nil, 0)
	w.u32(ctaStatus, statesync.StatusOffload&(1<<14)|0xe)
	w.end(at)
	m, _, _ := nextMessage(w.b)
	var e statesync.Event
	if ok, err := parseEvent(&m, &e); !ok || err != nil || e.Flow.Has != 0 || e.Flow.Status&statesync.StatusOffload == 0 {
		t.Errorf("%v %v %+v", ok, err, e)
	}
	w.b = w.b[:0]
	w.update(1, &e.Flow)
	m, _, _ = nextMessage(w.b)
	for a := (attrs{b: m.body[genLen:]}); a.next(); {
		if a.kind == ctaStatus && a.u32()&statesync.StatusOffload != 0 {
			t.Error("the offload bit is copied")
		}
	}
}

// FuzzParse: whatever comes from the kernel's side does not panic, and what was understood can be said again.
func FuzzParse(f *testing.F) {
	b, _ := hex.DecodeString(captured)
	f.Add(b)
	var w builder
	for _, x := range flows() {
		w.b = w.b[:0]
		w.create(1, &x.flow)
		f.Add(append([]byte(nil), w.b...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			m, rest, err := nextMessage(b)
			if err != nil {
				return
			}
			var e statesync.Event
			if ok, _ := parseEvent(&m, &e); ok && e.Expect == nil {
				var w builder
				w.create(1, &e.Flow)
				w.update(2, &e.Flow)
			}
			b = rest
		}
	})
}
