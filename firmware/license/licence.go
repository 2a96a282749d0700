package license

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Product is what a licence must be for.
const Product = "twinkeep"

// Licence is what a vendor has signed: that the gateway whose registration interface has a certain MAC may serve.
type Licence struct {
	// ID names the licence: 1 to 64 letters, digits and . _ -
	ID string `json:"id"`
	// Owner is for people: 1 to 128 bytes of printable text.
	Owner   string `json:"owner"`
	Product string `json:"product"`
	// MAC of the registration interface, six bytes in lower case with colons.
	MAC string `json:"mac"`
	// Issued is when it was signed, in UTC and whole seconds. It also tells a box with a wrong clock that it is not earlier.
	Issued time.Time `json:"issued"`
	// From and Until are the first and the last day of the term in UTC, both included. Without Until it has no end.
	From  Day    `json:"from"`
	Until Day    `json:"until,omitzero"`
	Limit Limits `json:"limits"`
	// Server is the licence server that must be reached now and then; none means never.
	Server string `json:"server,omitempty"`
	// GraceDays is how long the server may be out of reach, in days of running time, 1 to 90. Only with Server.
	GraceDays int `json:"grace_days,omitempty"`
}

// Limits are what was sold. They are shown, not enforced. 0 means none.
type Limits struct {
	Members    int `json:"members,omitempty"`
	Interfaces int `json:"interfaces,omitempty"`
	Throughput int `json:"throughput_mbit,omitempty"` // Mbit/s
}

// DefaultGraceDays is the grace of a licence with a server: two weeks, as Clavister's.
const DefaultGraceDays = 14

const (
	maxGraceDays = 90
	maxLimit     = 1 << 30
)

// Day is a calendar day in UTC, written 2006-01-02. The zero value is no day.
type Day struct{ midnight time.Time }

// DayOf is the day in UTC that t falls on.
func DayOf(t time.Time) Day { return Day{t.UTC().Truncate(24 * time.Hour)} }

// ParseDay reads 2006-01-02.
func ParseDay(s string) (Day, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return Day{}, fmt.Errorf("%q is not a day: write it as 2026-12-31", s)
	}
	return Day{t}, nil
}

// IsZero reports whether it is no day.
func (d Day) IsZero() bool { return d.midnight.IsZero() }

// Equal reports whether both are the same day.
func (d Day) Equal(o Day) bool { return d.midnight.Equal(o.midnight) }

// Start is the first instant of the day.
func (d Day) Start() time.Time { return d.midnight }

// End is the first instant behind the day.
func (d Day) End() time.Time { return d.midnight.AddDate(0, 0, 1) }

// String writes the day as 2006-01-02.
func (d Day) String() string { return d.midnight.Format(time.DateOnly) }

// MarshalText implements encoding.TextMarshaler.
func (d Day) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Day) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDay(string(b))
	return err
}

// Grace is how long the licence server may be out of reach.
func (l *Licence) Grace() time.Duration { return time.Duration(l.GraceDays) * 24 * time.Hour }

var idForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Earliest and latest year of a date in a licence: what falls outside is a slip of the pen or an attempt to overflow.
const (
	firstYear = 2020
	lastYear  = 2199
)

// Validate reports the first thing that a licence cannot say.
func (l *Licence) Validate() error {
	mac, macErr := net.ParseMAC(l.MAC)
	switch {
	case !idForm.MatchString(l.ID):
		return fmt.Errorf("licence ID %q: want 1 to 64 letters, digits and . _ -", l.ID)
	case !isText(l.Owner, 128):
		return fmt.Errorf("owner %q: want 1 to 128 bytes of printable text", l.Owner)
	case l.Product != Product:
		return fmt.Errorf("it is for product %q, this is %q", l.Product, Product)
	case macErr != nil || len(mac) != 6 || mac.String() != l.MAC:
		return fmt.Errorf("registration MAC %q: want six bytes as 52:54:00:12:34:56", l.MAC)
	case mac[0]&1 != 0 || l.MAC == "00:00:00:00:00:00":
		return fmt.Errorf("registration MAC %s is not the address of a NIC", l.MAC)
	case l.Issued.Location() != time.UTC || l.Issued.Nanosecond() != 0 || !sane(l.Issued):
		return fmt.Errorf("issued %v: want whole seconds in UTC, from %d to %d", l.Issued, firstYear, lastYear)
	case !sane(l.From.Start()):
		return fmt.Errorf("term from %v: want a day from %d to %d", l.From, firstYear, lastYear)
	case !l.Until.IsZero() && !sane(l.Until.Start()):
		return fmt.Errorf("term until %v: want a day from %d to %d", l.Until, firstYear, lastYear)
	case !l.Until.IsZero() && l.Until.Start().Before(l.From.Start()):
		return fmt.Errorf("the term ends on %v, before it begins on %v", l.Until, l.From)
	}
	for _, n := range []int{l.Limit.Members, l.Limit.Interfaces, l.Limit.Throughput} {
		if n < 0 || n > maxLimit {
			return fmt.Errorf("limit %d is not between 0 and %d", n, maxLimit)
		}
	}
	return l.validateServer()
}

func (l *Licence) validateServer() error {
	if l.Server == "" {
		if l.GraceDays != 0 {
			return fmt.Errorf("grace of %d days without a licence server", l.GraceDays)
		}
		return nil
	}
	u, err := url.Parse(l.Server)
	switch {
	case err != nil || !isText(l.Server, 256) || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("licence server %q: want an address as https://licence.example.com", l.Server)
	case l.GraceDays < 1 || l.GraceDays > maxGraceDays:
		return fmt.Errorf("grace of %d days: want 1 to %d", l.GraceDays, maxGraceDays)
	}
	return nil
}

func sane(t time.Time) bool { return t.Year() >= firstYear && t.Year() <= lastYear }

// isText reports whether s can stand in one line of a file and a terminal, without blanks at its ends.
func isText(s string, most int) bool {
	return s != "" && len(s) <= most && utf8.ValidString(s) && strings.TrimSpace(s) == s &&
		strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
