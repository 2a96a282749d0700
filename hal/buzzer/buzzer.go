// Package buzzer makes a box heard: short tunes at a change, never a sound that goes on. [Tune] is data; [Play] is the
// edge.
package buzzer

import (
	"context"
	"time"
)

// Note is a tone and its length; a frequency of 0 Hz is a rest.
type Note struct {
	Hertz  int
	Length time.Duration
}

// Tune is notes in order.
type Tune []Note

// Tunes. Ready rises, Attention is even, Lockdown falls.
var (
	Ready     = Tune{{880, 80 * time.Millisecond}, {0, 40 * time.Millisecond}, {1760, 120 * time.Millisecond}}
	Attention = Tune{{1000, 150 * time.Millisecond}, {0, 100 * time.Millisecond}, {1000, 150 * time.Millisecond}}
	Lockdown  = Tune{{1760, 200 * time.Millisecond}, {0, 60 * time.Millisecond}, {880, 200 * time.Millisecond}, {0, 60 * time.Millisecond}, {440, 400 * time.Millisecond}}
	// Reset accompanies the offer of a factory reset.
	Reset = Tune{{2000, 80 * time.Millisecond}, {0, 80 * time.Millisecond}, {2000, 80 * time.Millisecond}, {0, 80 * time.Millisecond}, {2000, 80 * time.Millisecond}}
)

// Sounder plays one tone until it gets another; 0 Hz is silence.
type Sounder interface{ Tone(hertz int) error }

// Play plays a tune, and is silent afterwards whatever happens.
func Play(ctx context.Context, s Sounder, t Tune) error {
	defer s.Tone(0)
	for _, n := range t {
		if err := s.Tone(n.Hertz); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(n.Length):
		}
	}
	return nil
}
