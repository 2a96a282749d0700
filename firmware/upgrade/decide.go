package upgrade

import (
	"errors"
	"fmt"
)

// Tries is how often a new image is started before the old one comes back. One:
// an image that hung once is not worth a second outage.
const Tries = 1

// Op is one change on the EFI system partition. Each is durable before the next
// begins.
type Op struct {
	Kind OpKind
	Name string // in EntriesDir; of ReplaceImage the slot
	Data []byte // of WriteEntry
}

// OpKind is what an Op does.
type OpKind int

// Kinds of changes.
const (
	RemoveEntry  OpKind = iota + 1
	WriteEntry          // written beside and renamed: it is there whole or not at all
	ReplaceImage        // the image that was written beside the slot takes its place
)

func (o Op) String() string {
	return map[OpKind]string{RemoveEntry: "remove ", WriteEntry: "write ", ReplaceImage: "replace image "}[o.Kind] + o.Name
}

// Box is what is known about the box: the entries on the disk, and the slot and
// release that run.
type Box struct {
	Table   Table
	Running Slot
	Release Release
	// Watchdog is the one that runs and that the trial loader can arm, or NoWatchdog; "" when the partition has no trial loader that would start.
	Watchdog string
}

// OnTrial tells whether the running slot waits for its confirmation.
func (b Box) OnTrial() bool {
	es := b.Table.Of(b.Running)
	return len(es) > 0 && es[0].Counted
}

// Candidate is an image that wants to be installed.
type Candidate struct {
	Release Release
	Size    int64
	SHA256  [32]byte
}

// Errors of Check and the decisions.
var (
	ErrOnTrial = errors.New("the running image is on trial: confirm it, or reboot to go back, before another one is installed")
	ErrOlder   = errors.New("older than the running image; --force installs it all the same")
)

// Check refuses candidates that do not belong on this box, from what their
// manifest says, before anything is written.
func (b Box) Check(c Candidate, force bool) error {
	switch {
	case b.Running != A && b.Running != B:
		return errors.New("it is not known which slot runs, so none can be called idle: reboot from the disk and try again")
	case c.Release.Board != b.Release.Board:
		return fmt.Errorf("the file is for board %q, this is %q: get the file for this board", c.Release.Board, b.Release.Board)
	case c.Size <= 0 || c.Size > MaxImage:
		return fmt.Errorf("the image is %d bytes, want 1 to %d", c.Size, int64(MaxImage))
	case b.OnTrial():
		return ErrOnTrial
	case c.Release.Revision < b.Release.Revision && !force:
		return fmt.Errorf("%v is %w (%v)", c.Release, ErrOlder, b.Release)
	}
	return nil
}

// Install says how the image that lies verified beside the idle slot becomes
// that slot and is tried at the next boot. The entries of the idle slot go
// first: at no moment does an entry name an image that is not whole.
func (b Box) Install(c Candidate) []Op {
	idle := b.Running.Other()
	ops := b.remove(idle, "")
	ops = append(ops, Op{Kind: ReplaceImage, Name: string(idle)})
	e := Entry{Slot: idle, Generation: b.Table.Generation() + 1, Release: c.Release, SHA256: c.SHA256, Size: c.Size, Counted: true, Left: Tries, Watchdog: b.Watchdog}
	return append(ops, Op{WriteEntry, e.Name(), e.Content()})
}

// Confirm makes the running slot good. Without a trial there is nothing to do.
// The good entry is written before the counted one goes.
func (b Box) Confirm() []Op {
	es := b.Table.Of(b.Running)
	if len(es) == 0 || !es[0].Counted {
		return nil
	}
	e := es[0]
	e.Counted, e.Left, e.Done, e.Watchdog = false, 0, 0, ""
	return append([]Op{{WriteEntry, e.Name(), e.Content()}}, b.remove(b.Running, e.Name())...)
}

// Rollback makes the next boot take the other slot. On trial nothing has to be
// changed: the loader has counted the try already. Else the other slot is put on
// trial in its turn, for it may have rotted since it ran last.
func (b Box) Rollback() ([]Op, error) {
	if b.OnTrial() {
		return nil, nil
	}
	other := b.Table.Of(b.Running.Other())
	if len(other) == 0 {
		return nil, fmt.Errorf("slot %s holds no image to go back to", b.Running.Other())
	}
	e := other[0]
	e.Generation, e.Counted, e.Left, e.Watchdog = b.Table.Generation()+1, true, Tries, b.Watchdog
	// The loader counts by renaming, b+1-1.conf becomes b+0-2.conf, and boots
	// without counting when that name is taken: an entry on trial for ever. So the
	// new name continues the count of whatever is there.
	for _, o := range other {
		e.Done = max(e.Done, o.Done)
	}
	// A name that exists is replaced; the others of the slot go afterwards, and
	// until they are gone the higher generation decides.
	return append([]Op{{WriteEntry, e.Name(), e.Content()}}, b.remove(e.Slot, e.Name())...), nil
}

// Withdraw takes back an image that is installed and was not started yet. The
// idle slot has no entry then.
func (b Box) Withdraw() []Op {
	var ops []Op
	for _, e := range b.Table {
		if e.Slot == b.Running.Other() && e.Counted && e.Left > 0 {
			ops = append(ops, Op{Kind: RemoveEntry, Name: e.Name()})
		}
	}
	return ops
}

// remove lists the removal of a slot's entries but one.
func (b Box) remove(s Slot, keep string) []Op {
	var ops []Op
	for _, e := range b.Table {
		if e.Slot == s && e.Name() != keep {
			ops = append(ops, Op{Kind: RemoveEntry, Name: e.Name()})
		}
	}
	return ops
}
