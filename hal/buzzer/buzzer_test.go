package buzzer

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

type tape struct {
	tones []int
	fail  error
}

func (t *tape) Tone(hertz int) error {
	t.tones = append(t.tones, hertz)
	return t.fail
}

func TestPlay(t *testing.T) {
	s := &tape{}
	if err := Play(context.Background(), s, Attention); err != nil {
		t.Fatal(err)
	}
	if want := []int{1000, 0, 1000, 0}; !slices.Equal(s.tones, want) {
		t.Errorf("%v, want %v", s.tones, want)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s = &tape{}
	if err := Play(ctx, s, Tune{{440, time.Hour}}); !errors.Is(err, context.Canceled) || s.tones[len(s.tones)-1] != 0 {
		t.Errorf("%v, %v", err, s.tones)
	}
	s = &tape{fail: errors.New("gone")}
	if err := Play(context.Background(), s, Lockdown); err != s.fail || len(s.tones) != 2 {
		t.Errorf("%v, %v", err, s.tones)
	}
}

// Nothing sounds for longer than a second and a half: nobody in a rack room is to be tormented.
func TestTunesEnd(t *testing.T) {
	for _, tune := range []Tune{Ready, Attention, Lockdown, Reset} {
		var all time.Duration
		for _, n := range tune {
			all += n.Length
		}
		if all > 1500*time.Millisecond {
			t.Errorf("%v lasts %v", tune, all)
		}
	}
}
