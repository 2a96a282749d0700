package upgrade

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Slot is A or B.
type Slot string

// The two slots.
const (
	A Slot = "A"
	B Slot = "B"
)

// Other is the other slot.
func (s Slot) Other() Slot {
	if s == A {
		return B
	}
	return A
}

// Image is the path of the slot's image on the EFI system partition.
func (s Slot) Image() string { return "/EFI/twinkeep/" + string(s) + ".efi" }

// Failsafe is the file name of a slot's failsafe entry, below EntriesDir: the
// same image, and PID 1 starts nothing but consoles. It is told by its name,
// which works with secure boot too, where a command line cannot be added.
func (s Slot) Failsafe() string { return failsafePrefix + strings.ToLower(string(s)) + ".conf" }

const failsafePrefix = "failsafe-"

// TrialLoader is the path on the EFI system partition of what starts images on trial. It arms the machine's watchdog first, and resets the machine when the
// firmware refuses the image (tools/image/trialloader).
const TrialLoader = "/EFI/twinkeep/trial.efi"

// NoWatchdog tells the trial loader to arm none.
const NoWatchdog = "none"

// trialOptions are what the trial loader reads: the watchdog, and the image as firmware writes paths.
func (s Slot) trialOptions(watchdog string) string {
	return watchdog + " " + strings.ReplaceAll(s.Image(), "/", `\`)
}

// IsFailsafe tells whether an entry is one of those.
func IsFailsafe(name string) bool { return strings.HasPrefix(strings.ToLower(name), failsafePrefix) }

// FailsafeEntry is the content of that file. Its sort key is behind that of the
// slots, so it starts only when a person chooses it. The loader does not show it
// while there is no image.
func (s Slot) FailsafeEntry() []byte {
	return fmt.Appendf(nil, "title Twinkeep failsafe (slot %s): console only, nothing is forwarded\nsort-key twinkeep-failsafe\nefi %s\n", s, s.Image())
}

// EntriesDir is the folder of the entries on the EFI system partition.
const EntriesDir = "/loader/entries"

// Entry is one boot loader entry.
type Entry struct {
	Slot Slot
	// Generation orders the entries: the highest boots.
	Generation uint64
	Release    Release
	// SHA256 and Size of the image that the entry was written for; the zero
	// value when the entry does not say.
	SHA256 [32]byte
	Size   int64
	// Counted entries have a limited number of tries; the others are good.
	Counted    bool
	Left, Done int
	// Watchdog that the trial loader arms before it starts the image of a counted entry, or NoWatchdog; "": the boot loader starts the image.
	Watchdog string
}

// State of an entry.
type State string

// States.
const (
	Good   State = "good"
	Trial  State = "trial"  // to be tried, or being tried
	Failed State = "failed" // tried and never confirmed
)

// State tells how far the entry is; running is true for the entry that the box
// runs from.
func (e Entry) State(running bool) State {
	switch {
	case !e.Counted:
		return Good
	case e.Left > 0 || running:
		return Trial
	}
	return Failed
}

var entryName = regexp.MustCompile(`(?i)^([ab])(?:\+(\d{1,9})(?:-(\d{1,9}))?)?\.conf$`)

// SlotOf is the slot of an entry by its file name, with or without a count; ""
// for names that are not ours. (systemd-boot 252 calls the entry it started by
// the name it had before it was counted.)
func SlotOf(name string) Slot {
	for _, s := range []Slot{A, B} {
		if strings.EqualFold(name, s.Failsafe()) {
			return s
		}
	}
	if m := entryName.FindStringSubmatch(name); m != nil {
		return Slot(strings.ToUpper(m[1]))
	}
	return ""
}

// Name is the file name in EntriesDir, as systemd-boot wants it.
func (e Entry) Name() string {
	name := strings.ToLower(string(e.Slot))
	switch {
	case e.Counted && e.Done > 0:
		name += fmt.Sprintf("+%d-%d", e.Left, e.Done)
	case e.Counted:
		name += fmt.Sprintf("+%d", e.Left)
	}
	return name + ".conf"
}

// Content is what the file says.
func (e Entry) Content() []byte {
	start := "efi " + e.Slot.Image()
	if e.Counted && e.Watchdog != "" {
		start = "efi " + TrialLoader + "\noptions " + e.Slot.trialOptions(e.Watchdog)
	}
	return fmt.Appendf(nil, "title Twinkeep %s (slot %s)\nsort-key twinkeep\nversion %d\n%s\n# board %s\n# revision %d\n# release %s\n# size %d\n# sha256 %x\n",
		e.Release.Version, e.Slot, e.Generation, start, e.Release.Board, e.Release.Revision, e.Release.Version, e.Size, e.SHA256)
}

// MaxEntry bounds the file of an entry in bytes.
const MaxEntry = 4096

// ParseEntry reads an entry from its file name and content.
func ParseEntry(name string, content []byte) (Entry, error) {
	m := entryName.FindStringSubmatch(name)
	if m == nil {
		return Entry{}, fmt.Errorf("boot entry %q: the name is not that of slot a or b", name)
	}
	if len(content) > MaxEntry {
		return Entry{}, fmt.Errorf("boot entry %s: %d bytes, at most %d are allowed", name, len(content), MaxEntry)
	}
	e := Entry{Slot: Slot(strings.ToUpper(m[1])), Counted: m[2] != ""}
	if e.Counted {
		e.Left, _ = strconv.Atoi(m[2])
		e.Done, _ = strconv.Atoi(m[3]) // absent: 0
	}
	values := make(map[string]string)
	for line := range strings.Lines(string(content)) {
		k, v, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "# "), " ")
		if ok {
			values[k] = strings.TrimSpace(v)
		}
	}
	var err error
	if e.Generation, err = strconv.ParseUint(values["version"], 10, 64); err != nil {
		return Entry{}, fmt.Errorf("boot entry %s: version %q is not a generation", name, values["version"])
	}
	switch watchdog, _, _ := strings.Cut(values["options"], " "); {
	case e.Counted && values["efi"] == TrialLoader && watchdog != "" && values["options"] == e.Slot.trialOptions(watchdog):
		e.Watchdog = watchdog
	case values["efi"] != e.Slot.Image():
		return Entry{}, fmt.Errorf("boot entry %s: it starts %q, not the image of its slot", name, strings.TrimSpace(values["efi"]+" "+values["options"]))
	}
	e.Release = Release{Board: values["board"], Version: values["release"]}
	e.Release.Revision, _ = strconv.ParseUint(values["revision"], 10, 64) // for people; the image itself decides
	if sum, err := hex.DecodeString(values["sha256"]); err == nil && len(sum) == len(e.SHA256) {
		e.SHA256 = [32]byte(sum)
		if e.Size, err = strconv.ParseInt(values["size"], 10, 64); err != nil || e.Size < 0 {
			e.Size, e.SHA256 = 0, [32]byte{}
		}
	}
	return e, nil
}

// Table is the entries of both slots.
type Table []Entry

// Order sorts as systemd-boot 252 does (src/boot/efi/boot.c, boot_entry_compare):
// entries without a try left last, then the higher version first.
func (t Table) Order() Table {
	out := slices.Clone(t)
	slices.SortStableFunc(out, func(a, b Entry) int {
		return cmp.Or(
			boolCompare(a.spent(), b.spent()),
			cmp.Compare(b.Generation, a.Generation),
			cmp.Compare(b.Slot, a.Slot), // the file name
			cmp.Compare(b.Left, a.Left),
		)
	})
	return out
}

func (e Entry) spent() bool { return e.Counted && e.Left == 0 }

func boolCompare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// Of returns the entries of a slot, the one that boots first at the front.
func (t Table) Of(s Slot) Table {
	var out Table
	for _, e := range t.Order() {
		if e.Slot == s {
			out = append(out, e)
		}
	}
	return out
}

// Generation is the highest in use.
func (t Table) Generation() uint64 {
	var n uint64
	for _, e := range t {
		n = max(n, e.Generation)
	}
	return n
}
