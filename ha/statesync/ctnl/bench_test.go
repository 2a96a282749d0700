package ctnl

import (
	"testing"

	"github.com/twinkeep/twinkeep/ha/statesync"
	"github.com/twinkeep/twinkeep/tools/netnslab"
)

// many makes operations for connections of many ports.
func many(n int) []statesync.KernelOp {
	out := make([]statesync.KernelOp, n)
	for i := range out {
		f := flows()[0].flow
		f.Orig.SrcPort, f.Reply.DstPort = uint16(i), uint16(i)
		f.Orig.Src[3] = byte(i>>16<<4) + byte(i%16)
		f.Orig.Src[2] = byte(i)
		out[i] = statesync.KernelOp{Key: uint64(i), Flow: f}
	}
	return out
}

func BenchmarkCreate(b *testing.B) {
	for _, listening := range []bool{false, true} {
		name := map[bool]string{false: "nobody listens", true: "events on"}[listening]
		b.Run(name, func(b *testing.B) {
			ns := netnslab.New(b)
			var t *Table
			ns.Try(func() (err error) { t, err = OpenTable(); return err })
			defer t.Close()
			if listening {
				var e *Events
				ns.Try(func() (err error) { e, err = OpenEvents(EventBuffer, t.Port()); return err })
				defer e.Close()
			}
			ops := many(50000)
			b.ResetTimer()
			n := 0
			for at := 0; n < b.N; at = (at + 256) % 49000 {
				if at == 0 {
					b.StopTimer()
					ns.Run("conntrack", "-F")
					b.StartTimer()
				}
				t.Apply(ops[at : at+256])
				n += 256
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	var w builder
	f := flows()[0].flow
	for b.Loop() {
		w.b = w.b[:0]
		w.create(1, &f)
	}
}

func BenchmarkParse(b *testing.B) {
	var w builder
	f := flows()[0].flow
	w.create(1, &f)
	var e statesync.Event
	for b.Loop() {
		m, _, _ := nextMessage(w.b)
		parseEvent(&m, &e)
	}
}
