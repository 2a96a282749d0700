package vswitch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twinkeep/twinkeep/tools/lab/ether"
)

// maxDelay bounds every delay a rule can ask for, so that a queue cannot hold frames for ever.
const maxDelay = 10 * time.Second

// Impair is what a cable does to the frames of one direction. The zero value is a perfect cable.
type Impair struct {
	Cut       bool          `json:"cut,omitempty"`        // nothing passes
	Drop      float64       `json:"drop,omitempty"`       // probability 0..1 that a frame is lost
	Delay     time.Duration `json:"delay,omitempty"`      // 0..10 s, every frame
	Jitter    time.Duration `json:"jitter,omitempty"`     // 0..10 s, uniform addition to Delay; order is kept
	Duplicate float64       `json:"duplicate,omitempty"`  // probability 0..1 that a frame arrives twice
	Reorder   float64       `json:"reorder,omitempty"`    // probability 0..1 that a frame is held back
	ReorderBy time.Duration `json:"reorder_by,omitempty"` // how long it is held back; 10 ms when zero
	// BadIPChecksum drops IPv4 frames whose header checksum is wrong, as a bridge with br_netfilter does. It is
	// what kills heartbeats with `checksums: invalid`.
	BadIPChecksum bool `json:"bad_ip_checksum,omitempty"`
}

// Rules are the rules of one port. In is the way from the station into the switch, Out the way to the station.
// In.Cut and Out.Cut together are a cut cable whose carrier stays up; carrier loss is made in QEMU (set_link).
type Rules struct {
	In     Impair `json:"in,omitzero"`
	Out    Impair `json:"out,omitzero"`
	Mirror string `json:"mirror,omitempty"` // name of a port that gets a copy of every frame of both directions
}

// Validate reports the first value that is out of range.
func (r Rules) Validate() error {
	return errors.Join(r.In.validate("in"), r.Out.validate("out"))
}

func (i Impair) validate(dir string) error {
	for _, p := range []struct {
		name string
		v    float64
	}{{"drop", i.Drop}, {"duplicate", i.Duplicate}, {"reorder", i.Reorder}} {
		if !(p.v >= 0 && p.v <= 1) { // also refuses NaN
			return fmt.Errorf("rule %s.%s is %v: a probability is 0 to 1", dir, p.name, p.v)
		}
	}
	for _, d := range []struct {
		name string
		v    time.Duration
	}{{"delay", i.Delay}, {"jitter", i.Jitter}, {"reorder_by", i.ReorderBy}} {
		if d.v < 0 || d.v > maxDelay {
			return fmt.Errorf("rule %s.%s is %v: want 0 to %v", dir, d.name, d.v, maxDelay)
		}
	}
	return nil
}

// Loss says why a frame did not pass.
type Loss string

// Reasons of a loss.
const (
	NotLost      Loss = ""
	LostCut      Loss = "cut"
	LostDrop     Loss = "drop"
	LostChecksum Loss = "checksum"
	LostQueue    Loss = "queue full"
)

// pass is one copy of a frame on its way.
type pass struct {
	delay   time.Duration
	ordered bool // keeps its place behind frames that came before
}

// plan decides about one frame. It returns one pass a copy, none with the reason when the frame is lost.
func (i Impair) plan(frame []byte, rng *rand.Rand) ([]pass, Loss) {
	switch {
	case i == Impair{}:
		return []pass{{ordered: true}}, NotLost
	case i.Cut:
		return nil, LostCut
	case i.BadIPChecksum && ether.BadIPChecksum(frame):
		return nil, LostChecksum
	case i.Drop > 0 && rng.Float64() < i.Drop:
		return nil, LostDrop
	}
	p := pass{delay: i.Delay, ordered: true}
	if i.Jitter > 0 {
		p.delay += time.Duration(rng.Int64N(int64(i.Jitter) + 1))
	}
	if i.Reorder > 0 && rng.Float64() < i.Reorder {
		by := i.ReorderBy
		if by == 0 {
			by = 10 * time.Millisecond
		}
		p.delay, p.ordered = p.delay+by, false
	}
	out := []pass{p}
	if i.Duplicate > 0 && rng.Float64() < i.Duplicate {
		out = append(out, p)
	}
	return out, NotLost
}
