package sim

import (
	"crypto/sha256"
	"fmt"
)

// Digest is a hash over everything that happens in a history and how it ends, down to the network's next chance. What
// is meant to change neither the core's decisions nor the simulator's must leave it as it is.
func (h *History) Digest() string {
	sum := sha256.New()
	w := h.Play(func(line string) { fmt.Fprintln(sum, line) })
	fmt.Fprintln(sum, w.Now, w.Violation, w.DualTime, w.OneWayTime, w.ThawTime, w.queue.serial, w.rng.Uint64())
	for _, n := range w.Nodes {
		fmt.Fprintln(sum, n.ID, n.Gate, n.Announced, n.AnnouncedAt, n.disk, n.boots, n.clock, n.timer, n.saidAt, n.said.Seq, n.term, w.path[n.ID])
		if n.Machine != nil {
			fmt.Fprintf(sum, "%+v %+v\n", n.Machine.View(), n.Machine.Votes())
		}
	}
	return fmt.Sprintf("%x", sum.Sum(nil)[:8])
}
