// Package led turns the status of a member into patterns of lamps.
//
// What to show is pure: [Show] maps a status and what a lamp is for to a [Pattern], and [Pattern.At] tells whether the
// lamp is lit at a moment. [Class] and the lines of package hal/gpio are the lamps themselves.
package led

import (
	"fmt"
	"strings"
	"time"
)

// Status is what a box tells at its front, the worst first.
type Status uint8

// Statuses.
const (
	Lockdown  Status = iota // management only, by the licence; or the member judges itself unfit to forward
	Attention               // it works, and somebody should look
	Upgrading               // an image is being written or on trial
	Active                  // this member forwards
	Standby                 // ready to take over
	Booting                 // not there yet
)

var statusNames = [...]string{"lockdown", "attention", "upgrading", "active", "standby", "booting"}

// String is the name, as in documents and the API.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// MarshalText implements encoding.TextMarshaler.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Status) UnmarshalText(text []byte) error {
	for i, name := range statusNames {
		if name == string(text) {
			*s = Status(i)
			return nil
		}
	}
	return fmt.Errorf("LED status %q is none of %s", text, strings.Join(statusNames[:], ", "))
}

// Purpose is what one lamp is for: the key "shows" of a board file.
type Purpose string

// Purposes of lamps.
const (
	ShowsStatus    Purpose = "status"    // every status by a pattern of its own
	ShowsActive    Purpose = "active"    // lit while this member is active
	ShowsAttention Purpose = "attention" // lit when somebody should look
	ShowsPower     Purpose = "power"     // lit while the firmware runs
)

// Pattern is a lamp over time: lit and dark in turn, beginning with lit, from the start again when the last phase has
// passed. A nil pattern is dark, one phase is lit for good.
type Pattern []time.Duration

// Off is dark and On is lit, for good.
var (
	Off Pattern
	On  = Pattern{time.Second}
)

// Phases that the eye tells apart; no change is faster than a tenth of a second, which a lamp behind a slow bus follows.
const (
	short = 150 * time.Millisecond
	long  = 600 * time.Millisecond
	pause = 1200 * time.Millisecond
)

// Flashes is n short flashes and a pause. Below one it is dark.
func Flashes(n int) Pattern {
	var p Pattern
	for i := range n {
		dark := short
		if i == n-1 {
			dark = pause
		}
		p = append(p, short, dark)
	}
	return p
}

// Blink is lit and dark for the same time.
func Blink(half time.Duration) Pattern { return Pattern{half, half} }

// Patterns of a lamp that shows the status. No two are alike.
var statusPatterns = map[Status]Pattern{
	Booting:   Blink(100 * time.Millisecond),
	Standby:   {short, 2 * time.Second},
	Active:    On,
	Attention: Flashes(2),
	Lockdown:  Flashes(3),
	Upgrading: Blink(long),
}

// Show gives the pattern of a lamp. active tells whether this member forwards: a status that is worse hides that from
// the lamp of the status, not from the one of the active member.
func Show(s Status, active bool, p Purpose) Pattern {
	switch p {
	case ShowsPower:
		return On
	case ShowsActive:
		if active {
			return On
		}
		return Off
	case ShowsAttention:
		switch s {
		case Lockdown:
			return On
		case Attention:
			return Blink(long)
		}
		return Off
	}
	return statusPatterns[s]
}

// Roles in the answer to a short press: so many flashes. The operator counts them twice or three times.
var roleFlashes = map[string]int{"ACTIVE": 1, "STANDBY": 2, "READY": 3, "INIT": 4, "DOWN": 5, "ACTIVE!": 6, "WITNESS": 7}

// Role is the answer to a short press: as many flashes as docs/hardware.md says for the state, "ACTIVE" and so on.
// Lamps that do not show the status are dark meanwhile, so that the answer cannot be mistaken for a status. A standalone
// gateway (empty state) flashes once: it forwards.
func Role(state string, p Purpose) Pattern {
	if p != ShowsStatus {
		return Off
	}
	if state == "" {
		state = "ACTIVE"
	}
	n, known := roleFlashes[state]
	if !known {
		n = roleFlashes["DOWN"]
	}
	return Flashes(n)
}

// Confirm is what all lamps show while a factory reset waits for its confirmation, Done when it has been confirmed.
var (
	Confirm = Blink(125 * time.Millisecond)
	Done    = On
)

// Locate is what all lamps show to an operator who looks for the box.
var Locate = Blink(250 * time.Millisecond)

// At tells whether a lamp that began with p is lit after t, and for how long that stays; 0 is for good.
func (p Pattern) At(t time.Duration) (lit bool, rest time.Duration) {
	switch len(p) {
	case 0:
		return false, 0
	case 1:
		return true, 0
	}
	var period time.Duration
	for _, d := range p {
		period += d
	}
	if period <= 0 || t < 0 {
		return true, 0
	}
	t %= period
	for i, d := range p {
		if t < d {
			return i%2 == 0, d - t
		}
		t -= d
	}
	return true, 0 // not reached: t is below the period
}

// Equal tells whether two patterns are the same.
func (p Pattern) Equal(q Pattern) bool {
	if len(p) != len(q) {
		return false
	}
	for i := range p {
		if p[i] != q[i] {
			return false
		}
	}
	return true
}
