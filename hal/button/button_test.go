package button

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// play gives presses (+), releases (-) and ticks (.) at seconds, and returns what followed.
func play(m *Machine, script ...any) (out []Action) {
	for i := 0; i < len(script); i += 2 {
		at := time.Duration(script[i+1].(float64) * float64(time.Second))
		switch script[i] {
		case "+":
			out = append(out, m.Press(at)...)
		case "-":
			out = append(out, m.Release(at)...)
		default:
			out = append(out, m.Tick(at)...)
		}
	}
	return out
}

func TestDialogue(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script []any
		want   []Action
		state  State
	}{
		{"short press", []any{"+", 1., "-", 1.2}, []Action{ShowRole}, Idle},
		{"just short", []any{"+", 1., "-", 5.999}, []Action{ShowRole}, Idle},
		{"two short ones", []any{"+", 1., "-", 1.2, "+", 2., "-", 2.1}, []Action{ShowRole, ShowRole}, Idle},
		{"long", []any{"+", 1., ".", 6.}, []Action{Offered}, Offering},
		{"long, no tick between", []any{"+", 1., "-", 8.}, []Action{Offered}, Waiting},
		{"not confirmed", []any{"+", 1., ".", 6., "-", 7., ".", 17.}, []Action{Offered, Cancelled}, Idle},
		{"confirmed", []any{"+", 1., ".", 6., "-", 7., "+", 9., ".", 12.}, []Action{Offered, Confirmed}, Ignoring},
		{"confirmed and released", []any{"+", 1., ".", 6., "-", 7., "+", 9., "-", 13.}, []Action{Offered, Confirmed}, Idle},
		{"second press too short", []any{"+", 1., ".", 6., "-", 7., "+", 9., "-", 11.9}, []Action{Offered, Cancelled}, Idle},
		{"second press too late", []any{"+", 1., ".", 6., "-", 7., "+", 17.1, "-", 17.2}, []Action{Offered, Cancelled, ShowRole}, Idle},
		{"one press is never enough", []any{"+", 1., ".", 6., ".", 9., ".", 20.}, []Action{Offered}, Offering},
		{"stuck", []any{"+", 1., ".", 31., ".", 3600., "-", 3601.}, []Action{Offered, Cancelled}, Idle},
		{"bounce", []any{"+", 1., "+", 1.01, "-", 1.2, "-", 1.21}, []Action{ShowRole}, Idle},
		{"release without press", []any{"-", 1.}, nil, Idle},
	} {
		var m Machine
		if got := play(&m, tt.script...); !slices.Equal(got, tt.want) || m.State() != tt.state {
			t.Errorf("%s: %v, %s; want %v, %s", tt.name, got, m.State(), tt.want, tt.state)
		}
	}
}

// Whatever happens to the button, a reset is confirmed only by a press of Hold that began within Window after the
// release of one of Long; every offer comes to an end.
func TestResetNeedsTwoPresses(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var m Machine
		now := time.Duration(0)
		down, pressed, released := false, now, now
		offered := false
		for range 60 {
			now += time.Duration(rng.Int64N(int64(7 * time.Second)))
			var got []Action
			switch rng.IntN(3) {
			case 0:
				got = m.Tick(now)
			case 1:
				got = m.Press(now)
				if !down {
					down, pressed = true, now
				}
			case 2:
				got = m.Release(now)
				if down {
					down, released = false, now
				}
			}
			for _, a := range got {
				switch a {
				case Offered:
					offered = true
				case Cancelled:
					offered = false
				case Confirmed:
					since := pressed
					if !offered || now-since < Hold || since-released > Window && down {
						t.Fatalf("confirmed by a press of %v", now-since)
					}
					offered = false
				}
			}
			if at, ok := m.Deadline(); ok && at <= now {
				t.Fatalf("%s: deadline %v has passed at %v", m.State(), at, now)
			}
		}
	}
}
