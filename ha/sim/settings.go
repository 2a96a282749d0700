package sim

import (
	"math/rand/v2"
	"time"

	"github.com/twinkeep/twinkeep/ha/cluster"
)

// Settings are those of a cluster that may differ between its members while a policy is rolled out, one restart after the
// other (docs/decisions/0075).
type Settings struct {
	PrimaryUp bool `json:"primaryUp,omitzero"`
	Lock      bool `json:"lock,omitzero"`
	// Dead and Silence are 0 for those of the history. Others are for two members without votes only.
	Dead    Span `json:"dead,omitzero"`
	Silence Span `json:"silence,omitzero"`
}

// set gives a member that is not running settings for its next start.
func (s *Settings) set(c *cluster.Config) {
	c.Mode, c.Lock = cluster.ActiveUp, s.Lock
	if s.PrimaryUp {
		c.Mode = cluster.PrimaryUp
	}
	if s.Dead != 0 {
		c.Timing.Dead, c.Timing.Silence = time.Duration(s.Dead), time.Duration(s.Silence)
	}
}

// slowest is what the cluster as a whole is measured by: the longer of each of the times that its members may have.
func (h *History) slowest() cluster.Timing {
	t := h.Timing()
	if o := h.Other; o != nil {
		t.Dead, t.Silence = max(t.Dead, time.Duration(o.Dead)), max(t.Silence, time.Duration(o.Silence))
	}
	return t
}

// primaryUp reports whether a member may ever run in that mode.
func (h *History) primaryUp() bool { return h.PrimaryUp || h.Other != nil && h.Other.PrimaryUp }

// rollOut adds the change of a policy to some histories: each member starts anew with other settings, in some order, whatever
// else happens meanwhile. Its chances are its own, so that the other faults of a seed stay what they are.
func (h *History) rollOut() {
	g := generator{Rand: rand.New(rand.NewPCG(h.Seed, 0x726f6c6c)), h: h, t: h.Timing()}
	if !g.one(8) {
		return
	}
	o := &Settings{PrimaryUp: g.one(2), Lock: g.one(2)}
	if h.Members == 2 && h.Witnesses == 0 && !h.Safety && g.one(2) {
		o.Dead = h.Lease + h.Beat + Span(ms+g.upTo(4*time.Duration(h.Lease)))
		o.Silence = 2*o.Dead + Span(g.upTo(3*time.Duration(o.Dead)))
	}
	h.Other = o
	at := h.Silence + Span(g.upTo(max(time.Duration(h.Silence), h.End())))
	for _, i := range g.Perm(h.Members) {
		f := Fault{At: at, Kind: Reconfigure, Member: uint8(i + 1), For: Span(4*ms + g.upTo(4*g.t.Dead))}
		if g.one(3) {
			g.moment(&f)
			f.Member = uint8(i + 1)
		}
		h.Faults = append(h.Faults, f)
		at += Span(g.upTo(time.Duration(h.slowest().Silence) + 8*g.t.Dead))
	}
}
