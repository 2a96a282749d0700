package statesync

import (
	"math/rand/v2"
	"testing"
)

// idleKernel takes everything and does nothing.
type idleKernel struct {
	errs []error
	n    int
}

func (k *idleKernel) Size() (int, int) { return 0, 1 << 30 }
func (k *idleKernel) Begin(ops []KernelOp) {
	for len(k.errs) < len(ops) {
		k.errs = append(k.errs, nil)
	}
	k.n = len(ops)
}
func (k *idleKernel) End() []error { return k.errs[:k.n] }

// BenchmarkTake is a standby's work for an entry, without the kernel's.
func BenchmarkTake(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	var frames [][]byte
	for range 500 {
		var w bundle
		w.open(TypeRepair)
		for range 500 {
			f := random(r)
			f.Has &^= HasHelper | HasMaster
			w.b = AppendFlow(w.b, OpSet, &f)
			w.count++
		}
		frames = append(frames, w.done())
	}
	m := machineFor(b, 2, &idleKernel{}, &fakeOutput{})
	m.loaded = true
	m.PeerUp(0, Hello{Version: 1, Cluster: 1, Member: 1})
	m.rules(m.peers[1], 1, true)
	m.peers[1].begun = true
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += 500 {
		f := frames[i/500%len(frames)]
		if err := m.Frame(0, 1, TypeRepair, f[FrameHeader:]); err != nil {
			b.Fatal(err)
		}
	}
}
