package upgrade

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

var v1 = Release{Board: "generic-x86_64", Version: "v1", Revision: 1}

func box(running Slot, entries ...Entry) Box {
	return Box{Table: entries, Running: running, Release: v1}
}

func entry(s Slot, generation uint64) Entry {
	return Entry{Slot: s, Generation: generation, Release: v1, Size: 1}
}

func trial(s Slot, generation uint64, left, done int) Entry {
	e := entry(s, generation)
	e.Counted, e.Left, e.Done = true, left, done
	return e
}

func TestRelease(t *testing.T) {
	r := Release{Board: "apu2", Version: "v1.2-3-gabc", Revision: 1795360354}
	text := r.Marshal([]byte("NAME=\"Twinkeep\"\nPRETTY_NAME=\"old\"\n"))
	got, err := ParseRelease(text)
	if err != nil || got != r || strings.Contains(string(text), "old") {
		t.Errorf("%+v, %v from\n%s", got, err, text)
	}
	for _, bad := range []string{"", "NAME=Debian\n", "TWINKEEP_BOARD=x\n", "TWINKEEP_BOARD=x\nTWINKEEP_REVISION=-1\n", strings.Repeat("#", maxRelease+1)} {
		if r, err := ParseRelease([]byte(bad)); err == nil {
			t.Errorf("%.20q: %+v", bad, r)
		}
	}
}

func watched(e Entry) Entry {
	e.Watchdog = "i6300esb"
	return e
}

func TestEntryNames(t *testing.T) {
	for name, e := range map[string]Entry{"a.conf": entry(A, 1), "b+1.conf": trial(B, 2, 1, 0), "b+0-1.conf": trial(B, 2, 0, 1), "a+1.conf": watched(trial(A, 3, 1, 0))} {
		if e.Name() != name {
			t.Errorf("%+v is called %s, want %s", e, e.Name(), name)
		}
		got, err := ParseEntry(name, e.Content())
		if err != nil || got != e {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, e)
		}
	}
	good := string(entry(A, 1).Content())
	for want, f := range map[string][2]string{
		"the name is not":                   {"c.conf", good},
		"is not a generation":               {"a.conf", strings.Replace(good, "version 1", "version x", 1)},
		"not the image of its":              {"b.conf", good},
		"at most 4096":                      {"a.conf", good + strings.Repeat("#", MaxEntry)},
		`trial.efi i6300esb`:                {"b+1.conf", string(watched(trial(A, 3, 1, 0)).Content())},
		`"/EFI/twinkeep/trial.efi i6300esb`: {"a.conf", string(watched(trial(A, 3, 1, 0)).Content())},
	} {
		if _, err := ParseEntry(f[0], []byte(f[1])); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestCheck(t *testing.T) {
	good := Candidate{Release: Release{Board: v1.Board, Version: "v2", Revision: 2}, Size: 100}
	older, foreign, huge := good, good, good
	older.Release.Revision, foreign.Release.Board, huge.Size = 0, "apu2", MaxImage+1
	b := box(A, entry(A, 1))
	for _, tt := range []struct {
		b     Box
		c     Candidate
		force bool
		err   string
	}{
		{b, good, false, ""},
		{b, older, false, "older than the running image"},
		{b, older, true, ""},
		{b, foreign, true, `the file is for board "apu2", this is "generic-x86_64"`},
		{b, huge, true, "the image is"},
		{box(A, trial(A, 2, 0, 1), entry(B, 1)), good, true, "on trial"},
		{box("", entry(A, 1)), good, true, "not known which slot runs"},
	} {
		err := tt.b.Check(tt.c, tt.force)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%+v: %v, want %q", tt.c, err, tt.err)
		}
	}
	if err := b.Check(older, false); !errors.Is(err, ErrOlder) {
		t.Error(err)
	}
}

// machine is a box that boots as systemd-boot does, with images that work or
// do not.
type machine struct {
	table   Table
	staged  *image
	slots   map[Slot]image
	running Slot
	cut     int // changes until the power goes; -1: never
}

type image struct {
	revision uint64
	works    bool
}

var errPower = errors.New("the power goes")

func (m *machine) box() Box {
	return Box{Table: m.table, Running: m.running, Release: v1, Watchdog: NoWatchdog}
}

func (m *machine) apply(ops []Op) error {
	for _, op := range ops {
		if m.cut == 0 {
			return errPower
		}
		m.cut--
		switch op.Kind {
		case RemoveEntry:
			n := len(m.table)
			m.table = slices.DeleteFunc(m.table, func(e Entry) bool { return e.Name() == op.Name })
			if len(m.table) == n {
				return fmt.Errorf("%v: it is not there", op)
			}
		case WriteEntry:
			e, err := ParseEntry(op.Name, op.Data)
			if err != nil {
				return err
			}
			m.table = append(slices.DeleteFunc(m.table, func(e Entry) bool { return e.Name() == op.Name }), e)
		case ReplaceImage:
			m.slots[Slot(op.Name)] = *m.staged
			m.staged = nil
		}
	}
	return nil
}

// boot starts the box until an image works, and tells how many starts it took;
// every start that hangs ends with a reset or a power cut.
func (m *machine) boot() (starts int) {
	for starts = 1; starts < 10; starts++ {
		order := m.table.Order()
		if len(order) == 0 {
			return 99
		}
		e := order[0]
		if e.Counted && e.Left > 0 {
			i := slices.IndexFunc(m.table, func(x Entry) bool { return x.Name() == e.Name() })
			counted := e
			counted.Left--
			counted.Done++
			// FAT refuses to rename onto a name that is there, and the loader boots
			// all the same.
			if !slices.ContainsFunc(m.table, func(x Entry) bool { return x.Name() == counted.Name() }) {
				m.table[i] = counted
			}
		}
		if m.slots[e.Slot].works {
			m.running = e.Slot
			return starts
		}
	}
	return starts
}

// Whatever is installed, confirmed and rolled back, with the power cut between
// any two changes: the box comes up, after two starts at most, in an image that
// was good before or is the one on trial.
func TestAlwaysBoots(t *testing.T) {
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := &machine{table: Table{entry(A, 1)}, slots: map[Slot]image{A: {1, true}}, running: A}
		var story []string
		for range 12 {
			m.cut = -1
			if r.IntN(2) == 0 {
				m.cut = r.IntN(5)
			}
			b := m.box()
			var ops []Op
			var err error
			what := []string{"install", "confirm", "rollback", "withdraw", "reboot"}[r.IntN(5)]
			switch what {
			case "install":
				m.staged = &image{seed, r.IntN(2) == 0}
				c := Candidate{Release: v1, Size: 1}
				if err = b.Check(c, true); err == nil {
					ops = b.Install(c)
				}
			case "confirm":
				ops = b.Confirm()
			case "rollback":
				ops, err = b.Rollback()
			case "withdraw":
				ops = b.Withdraw()
			}
			if err != nil {
				ops = nil
			}
			story = append(story, fmt.Sprintf("%s %v (cut after %d) on %s", what, ops, m.cut, b.Running))
			if err := m.apply(ops); err != nil && !errors.Is(err, errPower) {
				t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(story, "\n"))
			}
			if n := m.boot(); n > 2 {
				t.Fatalf("seed %d: %d starts, table %+v\n%s", seed, n, m.table, strings.Join(story, "\n"))
			}
		}
	}
}

func TestConfirmAndRollback(t *testing.T) {
	m := &machine{table: Table{entry(A, 1)}, slots: map[Slot]image{A: {1, true}}, running: A, cut: -1, staged: &image{2, true}}
	if err := m.apply(m.box().Install(Candidate{Release: v1, Size: 1})); err != nil {
		t.Fatal(err)
	}
	if m.boot(); m.running != B || !m.box().OnTrial() {
		t.Fatalf("running %s: %+v", m.running, m.table)
	}
	if m.boot(); m.running != A || m.table.Of(B)[0].State(false) != Failed {
		t.Fatalf("an unconfirmed trial boots again: %s, %+v", m.running, m.table)
	}
	// Again, confirmed this time.
	m.staged = &image{3, true}
	if err := m.apply(m.box().Install(Candidate{Release: v1, Size: 1})); err != nil {
		t.Fatal(err)
	}
	m.boot()
	if err := m.apply(m.box().Confirm()); err != nil {
		t.Fatal(err)
	}
	if ops := m.box().Confirm(); ops != nil {
		t.Errorf("confirmed twice: %v", ops)
	}
	if m.boot(); m.running != B || m.box().OnTrial() {
		t.Fatalf("confirmed, and then %s: %+v", m.running, m.table)
	}
	ops, err := m.box().Rollback()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.apply(ops); err != nil {
		t.Fatal(err)
	}
	if m.boot(); m.running != A || !m.box().OnTrial() {
		t.Errorf("rolled back to %s: %+v", m.running, m.table)
	}
	if _, err := box(A, entry(A, 1)).Rollback(); err == nil || err.Error() != "slot B holds no image to go back to" {
		t.Error(err)
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add("a.conf", entry(A, 1).Content())
	f.Add("b+1.conf", trial(B, 7, 1, 0).Content())
	f.Add("b+1.conf", watched(trial(B, 7, 1, 0)).Content())
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		e, err := ParseEntry(name, content)
		if err != nil {
			return
		}
		again, err := ParseEntry(e.Name(), e.Content())
		if err != nil || again.Slot != e.Slot || again.Generation != e.Generation || again.Counted != e.Counted || again.Watchdog != e.Watchdog {
			t.Fatalf("%+v becomes %+v, %v", e, again, err)
		}
	})
}

func FuzzParseRelease(f *testing.F) {
	f.Add(v1.Marshal(nil))
	f.Fuzz(func(t *testing.T, text []byte) { ParseRelease(text) })
}

// What systemd-boot and boxes with older firmware read. A change here is a new
// format.
func TestEntryGolden(t *testing.T) {
	e := trial(B, 7, 1, 0)
	e.Size, e.SHA256 = 21_000_000, [32]byte{0xab, 31: 0xcd}
	const want = `title Twinkeep v1 (slot B)
sort-key twinkeep
version 7
efi /EFI/twinkeep/B.efi
# board generic-x86_64
# revision 1
# release v1
# size 21000000
# sha256 ab000000000000000000000000000000000000000000000000000000000000cd
`
	if got := string(e.Content()); got != want || e.Name() != "b+1.conf" {
		t.Errorf("%s:\n%s", e.Name(), got)
	}
	const trialWant = "\nefi /EFI/twinkeep/trial.efi\noptions i6300esb \\EFI\\twinkeep\\B.efi\n# board"
	if got := string(watched(e).Content()); !strings.Contains(got, trialWant) {
		t.Errorf("on trial by the trial loader:\n%s", got)
	}
}

// TestFailsafe: the loader sorts the failsafe entries behind the slots', and the running slot is known from them.
func TestFailsafe(t *testing.T) {
	const want = "title Twinkeep failsafe (slot B): console only, nothing is forwarded\nsort-key twinkeep-failsafe\nefi /EFI/twinkeep/B.efi\n"
	if got := string(B.FailsafeEntry()); got != want || B.Failsafe() != "failsafe-b.conf" {
		t.Errorf("%s: %s", B.Failsafe(), got)
	}
	if SlotOf("failsafe-b.conf") != B || SlotOf("failsafe-c.conf") != "" || !IsFailsafe("failsafe-a.conf") || IsFailsafe("a.conf") {
		t.Error("a failsafe entry is not known")
	}
	if _, err := ParseEntry(A.Failsafe(), A.FailsafeEntry()); err == nil {
		t.Error("a failsafe entry is taken for one that boots by itself")
	}
}
