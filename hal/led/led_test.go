package led

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var statuses = []Status{Booting, Standby, Active, Attention, Lockdown, Upgrading}

// drawn is what an eye sees of a pattern in the first seconds, a letter for 50 ms.
func drawn(p Pattern, d time.Duration) string {
	var b strings.Builder
	for t := time.Duration(0); t < d; t += 50 * time.Millisecond {
		lit, _ := p.At(t)
		b.WriteByte(map[bool]byte{true: '#', false: '.'}[lit])
	}
	return b.String()
}

func TestStatusPatterns(t *testing.T) {
	for s, want := range map[Status]string{
		Booting:   "##..##..##..##..##..",
		Standby:   "###.................",
		Active:    "####################",
		Attention: "###...###...........",
		Lockdown:  "###...###...###.....",
		Upgrading: "############........",
	} {
		if got := drawn(Show(s, false, ShowsStatus), time.Second); got != want {
			t.Errorf("%v: %s, want %s", s, got, want)
		}
	}
}

// No two statuses look alike on the one lamp that a small box has, and none like the answers to a button.
func TestPatternsDiffer(t *testing.T) {
	seen := make(map[string]string)
	add := func(name string, p Pattern) {
		d := drawn(p, 4*time.Second)
		if other, twice := seen[d]; twice {
			t.Errorf("%s looks like %s", name, other)
		}
		seen[d] = name
	}
	for _, s := range statuses {
		add(s.String(), Show(s, false, ShowsStatus))
	}
	add("locate", Locate)
	add("confirm", Confirm)
}

func TestShowByPurpose(t *testing.T) {
	for _, s := range statuses {
		if p := Show(s, false, ShowsPower); !p.Equal(On) {
			t.Errorf("%v: power %v", s, p)
		}
		if len(Show(s, true, ShowsActive)) == 0 || len(Show(s, false, ShowsActive)) != 0 {
			t.Errorf("%v: the lamp of the active member", s)
		}
		if lit := len(Show(s, true, ShowsAttention)) > 0; lit != (s == Attention || s == Lockdown) {
			t.Errorf("%v: attention is lit: %t", s, lit)
		}
		text, _ := s.MarshalText()
		var back Status
		if err := back.UnmarshalText(text); err != nil || back != s {
			t.Errorf("%s: %v, %v", text, back, err)
		}
	}
	if err := new(Status).UnmarshalText([]byte("asleep")); err == nil {
		t.Error("asleep is taken for a status")
	}
}

func TestRole(t *testing.T) {
	flashes := func(p Pattern) int { return len(p) / 2 }
	seen := map[int]string{}
	for _, state := range []string{"ACTIVE", "STANDBY", "READY", "INIT", "DOWN", "ACTIVE!", "WITNESS"} {
		n := flashes(Role(state, ShowsStatus))
		if n == 0 || seen[n] != "" {
			t.Errorf("%s: %d flashes, as %q", state, n, seen[n])
		}
		seen[n] = state
		if len(Role(state, ShowsActive)) != 0 {
			t.Errorf("%s: the other lamps are not dark", state)
		}
	}
	if flashes(Role("", ShowsStatus)) != 1 || flashes(Role("a state of tomorrow", ShowsStatus)) != 5 {
		t.Error("a standalone gateway, or an unknown state")
	}
}

// Whatever the pattern and the time, the rest of a phase leads to a change, and never into the past.
func TestAtRest(t *testing.T) {
	for _, p := range []Pattern{Flashes(3), Blink(time.Millisecond), {5, 7, 11, 13}, {0, time.Second}, {time.Second, 0}, {0, 0}} {
		for at := time.Duration(0); at < 3*time.Second; at += 7 * time.Millisecond {
			lit, rest := p.At(at)
			if rest < 0 {
				t.Fatalf("%v at %v: rest %v", p, at, rest)
			}
			if rest == 0 {
				continue
			}
			if before, _ := p.At(at + rest - 1); before != lit {
				t.Fatalf("%v at %v: changes before its rest %v", p, at, rest)
			}
		}
	}
	if lit, rest := Off.At(time.Hour); lit || rest != 0 {
		t.Error("off")
	}
}

// leds makes a sysfs with lamps.
func leds(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, n := range names {
		dir := filepath.Join(root, "class/leds", n)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"brightness": "0\n", "max_brightness": "255\n", "trigger": "[heartbeat] none\n"} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func TestClass(t *testing.T) {
	root := leds(t, "apu2:green:led1", "apu2:green:led2", "input3::capslock")
	c, err := OpenClass(root, "apu*:green:*2")
	if err != nil || c.Name != "apu2:green:led2" {
		t.Fatal(c, err)
	}
	read := func(file string) string {
		b, err := os.ReadFile(filepath.Join(root, "class/leds/apu2:green:led2", file))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := read("trigger"); got != "none" && !strings.HasPrefix(got, "none") {
		t.Errorf("trigger %q", got)
	}
	for _, lit := range []bool{true, false} {
		if err := c.Set(lit); err != nil {
			t.Fatal(err)
		}
		if got := strings.HasPrefix(read("brightness"), "255"); got != lit {
			t.Errorf("lit %t: brightness %q", lit, read("brightness"))
		}
		os.Truncate(filepath.Join(root, "class/leds/apu2:green:led2/brightness"), 0)
	}
	for _, bad := range []string{"apu2:red:*", "[", ""} {
		if _, err := OpenClass(root, bad); !errors.Is(err, ErrAbsent) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := OpenClass(t.TempDir(), "*"); !errors.Is(err, ErrAbsent) {
		t.Errorf("no LED class: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(root, "class/leds/apu2:green:led2")); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(true); err == nil || !strings.Contains(err.Error(), "LED apu2:green:led2") {
		t.Errorf("a lamp that has gone: %v", err)
	}
}

// tape is a lamp that notes what it is told.
type tape struct {
	mu   sync.Mutex
	said []bool
	fail error
}

func (l *tape) Set(lit bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, lit)
	return l.fail
}

func (l *tape) Close() error { return nil }

func (l *tape) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.said)
}

func TestDriver(t *testing.T) {
	l := &tape{}
	d := Drive(l)
	until := func(what string, ok func() bool) {
		t.Helper()
		for range 500 {
			if ok() {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatal("never: " + what)
	}
	d.Show(On)
	until("lit", func() bool { lit, err := d.State(); return lit && err == nil })
	n := l.count()
	d.Show(On) // the same again writes nothing
	d.Show(Blink(5 * time.Millisecond))
	until("blinks", func() bool { return l.count() > n+6 })
	d.Show(Off)
	until("dark", func() bool { lit, _ := d.State(); return !lit })
	n = l.count()
	time.Sleep(50 * time.Millisecond)
	if l.count() > n+1 {
		t.Errorf("%d writes to a dark lamp", l.count()-n)
	}
	l.mu.Lock()
	l.fail = errors.New("gone")
	l.mu.Unlock()
	d.Show(On)
	until("the error is told", func() bool { _, err := d.State(); return err != nil })
	d.Close(Off)
	for i, lit := range l.said[1:] {
		if lit == l.said[i] && i < len(l.said)-3 {
			t.Errorf("write %d changes nothing: %v", i, l.said)
		}
	}
}
