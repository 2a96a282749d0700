package statesyncd

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/twinkeep/twinkeep/ha/statesync"
)

var soak = flag.Duration("soak", 3*time.Second, "how long connections churn in TestSoak")

// descriptors counts a process's open files.
func (m *labMember) descriptors() int {
	list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.cmd.Process.Pid))
	return len(list)
}

// TestSoak: under constant churn tables stay equal, and neither memory nor descriptors grow.
func TestSoak(t *testing.T) {
	l := started(t, 2)
	a, b := l.members[0], l.members[1]
	const many = 20000
	live := make([]bool, many)
	r := rand.New(rand.NewPCG(1, 1))
	churn := func(n int) {
		ops := make([]statesync.KernelOp, 0, n)
		for range n {
			i := r.IntN(many)
			op := create(flow(i))
			op.Key = uint64(i)
			switch {
			case !live[i]:
				live[i] = true
			case r.IntN(2) == 0:
				live[i], op.Kind = false, statesync.KernelDelete
			default:
				op.Kind, op.Flow.TCP.State = statesync.KernelUpdate, uint8(3+r.IntN(2)) // established, FIN_WAIT
			}
			ops = append(ops, op)
		}
		a.play(ops...)
	}
	for range 40 {
		churn(500)
	}
	l.waitEqual(a)
	rss := func() (out [2]uint64) { return [2]uint64{a.sync().RSS >> 20, b.sync().RSS >> 20} }
	first, files := rss(), a.descriptors()+b.descriptors()
	flips := 0
	report := time.Now()
	for end := time.Now().Add(*soak); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		churn(100)
		if time.Since(report) > 30*time.Second {
			report = time.Now()
			s := b.sync()
			if !s.InSync {
				flips++
			}
			t.Logf("memory %v MiB, %d descriptors, %+v", rss(), a.descriptors()+b.descriptors(), s.Stats)
		}
	}
	l.waitEqual(a)
	l.waitSync()
	last := rss()
	if s := b.sync(); s.Stats.Differed > 0 {
		t.Logf("digests differed: %+v, connections ended: %v\n%s\n%s", s.Stats, s.Sessions, a.logged(), b.logged())
	}
	t.Logf("memory %v MiB at first, %v at last; %d descriptors, %d; not in sync %d times", first, last, files, a.descriptors()+b.descriptors(), flips)
	for i := range last {
		if last[i] > 2*first[i]+16 {
			t.Errorf("memory of member %d grew from %d to %d MiB", i+1, first[i], last[i])
		}
	}
	if now := a.descriptors() + b.descriptors(); now > files+4 {
		t.Errorf("descriptors grew from %d to %d", files, now)
	}
	if flips > 0 {
		t.Errorf("not in sync %d times", flips)
	}
}
