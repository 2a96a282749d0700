package statesync

import (
	"net/netip"
	"testing"
)

// established is the i-th of many TCP connections behind one address.
func established(i int) Flow {
	f := Flow{Family: Inet, Has: HasTimeout | HasTCP, Timeout: 3600, Status: StatusSeenReply | StatusAssured | StatusConfirmed | StatusSrcNAT | StatusNATDone}
	f.TCP.State = 3
	src, _ := AddrOf(netip.AddrFrom4([4]byte{10, byte(1 + i/50000), byte(1 + i%250), byte(1 + i/250%200)}))
	dst, _ := AddrOf(netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + i/60000)}))
	vip, _ := AddrOf(netip.MustParseAddr("192.0.2.1"))
	f.Orig = Tuple{Proto: TCP, Src: src, SrcPort: uint16(1024 + i*31%60000), Dst: dst, DstPort: 443}
	f.Reply = Tuple{Proto: TCP, Src: dst, SrcPort: 443, Dst: vip, DstPort: uint16(1024 + i%60000)}
	return f
}

// BenchmarkJoin is what both sides do for an entry of a full sync, without the kernel's part.
func BenchmarkJoin(b *testing.B) {
	const total = 500000
	b.Run("holder", func(b *testing.B) {
		for n := 0; n < b.N; n += total {
			b.StopTimer()
			m := machineFor(b, 1, &idleKernel{}, &fakeOutput{})
			m.PeerUp(0, Hello{Version: 1, Cluster: 1, Member: 2})
			m.SetRole(0, Role{Known: true, Holder: true, Term: 1})
			walk := func() {
				events := make([]Event, 0, 100)
				m.PassBegin(0)
				for i := range total {
					events = append(events, Event{Flow: established(i)})
					if len(events) == 100 {
						m.Chunk(0, m.Clock(), events)
						events = events[:0]
					}
				}
				m.PassEnd(0)
			}
			walk()
			m.peers[2].need.All()
			b.StartTimer()
			walk()
		}
	})
	b.Run("standby", func(b *testing.B) {
		var frames [][]byte
		var w bundle
		for i := range total {
			if w.b == nil {
				w.open(TypeRepair)
			}
			f := established(i)
			w.b = AppendFlow(w.b, OpSet, &f)
			if w.count++; w.full() || i == total-1 {
				frames = append(frames, w.done())
			}
		}
		b.ReportAllocs()
		b.ResetTimer()
		for n := 0; n < b.N; n += total {
			m := machineFor(b, 2, &idleKernel{}, &fakeOutput{})
			m.loaded = true
			m.PeerUp(0, Hello{Version: 1, Cluster: 1, Member: 1})
			m.rules(m.peers[1], 1, true)
			m.peers[1].begun = true
			for _, f := range frames {
				if err := m.Frame(0, 1, TypeRepair, f[FrameHeader:]); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
