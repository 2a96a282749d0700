package license

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Ledger is what the machine must remember across restarts. Its file is one JSON object.
type Ledger struct {
	// Boot and At say when it was written: the boot of the kernel, and the time since then.
	Boot string        `json:"boot"`
	At   time.Duration `json:"at_ns"`
	// Demo is how much of the demo is used. Counting says that it was running down when this was written.
	Demo     time.Duration `json:"demo_ns"`
	Counting bool          `json:"counting"`
	// Seen is the latest time that this box has seen, in UTC.
	Seen time.Time `json:"seen"`
	// Issued is that of the newest licence ever believed here.
	Issued time.Time `json:"issued"`
	// Away is the running time since the licence server was last reached.
	Away time.Duration `json:"away_ns"`
	// Withdrawn is the ID of the licence that the server has withdrawn.
	Withdrawn string `json:"withdrawn,omitempty"`
	// Why is what the server said about it.
	Why string `json:"why,omitempty"`
}

// MaxLedger is the largest ledger that is read, in bytes.
const MaxLedger = 4096

// Encode writes the ledger's file.
func (l Ledger) Encode() []byte {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		panic("license: " + err.Error()) // times are bounded by the machine, the rest cannot fail
	}
	return append(b, '\n')
}

// ParseLedger reads a ledger's file.
func ParseLedger(data []byte) (Ledger, error) {
	var l Ledger
	if len(data) > MaxLedger {
		return Ledger{}, fmt.Errorf("licence ledger: %d bytes, the most is %d", len(data), MaxLedger)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&l); err != nil {
		return Ledger{}, fmt.Errorf("licence ledger: %w", err)
	}
	l.Seen, l.Issued = l.Seen.UTC(), l.Issued.UTC()
	bad := l.At < 0 || l.Demo < 0 || l.Away < 0 || len(l.Boot) > 64 || len(l.Why) > maxWhy ||
		!credible(l.Seen) || !credible(l.Issued) || l.Withdrawn != "" && !idForm.MatchString(l.Withdrawn)
	if bad {
		return Ledger{}, errors.New("licence ledger: a value is out of range")
	}
	return l, nil
}

func credible(t time.Time) bool { return t.IsZero() || t.Year() >= 1970 && t.Year() <= 9000 }

// Damaged is the ledger of a box whose own cannot be read: the demo counts as used, because nobody knows how much
// of it is left. It costs a box with a licence nothing.
func Damaged() Ledger { return Ledger{Demo: DemoTime} }
