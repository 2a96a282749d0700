package data

import (
	"bytes"
	"encoding/binary"
)

// Condition of what is on the partition.
type Condition int

// Conditions.
const (
	Blank      Condition = iota // nothing was ever there: create
	Clean                       // ext4 that says nothing bad of itself: mount
	Suspect                     // ext4 that has seen errors: check first
	Foreign                     // neither: damaged, or of somebody else
	Unfinished                  // the power went while it was created: create
)

func (c Condition) String() string {
	return [...]string{"blank", "clean", "damaged", "not recognised", "not finished"}[c]
}

// unfinished is in the first sector while the file system is created; ext4 leaves
// the first 1024 bytes alone. A sector is written whole or not at all, so this
// holds whatever else of a write reached the disk.
const unfinished = "TWINKEEP: this file system is being created\n"

// HeadSize is how much of the partition Inspect wants to see.
const HeadSize = 64 << 10

// Offsets in ext4's superblock, which is at 1024 (kernel: fs/ext4/ext4.h).
const (
	superblock = 1024
	sMagic     = superblock + 0x38
	sState     = superblock + 0x3a
	magic      = 0xef53
	errorFS    = 2
)

// Inspect judges a partition by its first HeadSize bytes.
func Inspect(head []byte) Condition {
	switch {
	case len(head) < sState+2:
		return Foreign
	case bytes.HasPrefix(head, []byte(unfinished)):
		return Unfinished
	case binary.LittleEndian.Uint16(head[sMagic:]) == magic:
		if binary.LittleEndian.Uint16(head[sState:])&errorFS != 0 {
			return Suspect
		}
		return Clean
	case len(bytes.Trim(head, "\x00")) == 0:
		return Blank
	}
	return Foreign
}

// Edge is what Bring does to the partition; the real one is on the kernel.
type Edge interface {
	Create() error
	Check() error // repairs what can be repaired
	Mount() error
	Writable() error // that the partition cannot be written at all
	MountReadOnly() error
}

// Outcome of Bring.
type Outcome struct {
	Created  bool
	Repaired bool
	// Lost says that there was something before Created, which is gone.
	Lost bool
	// ReadOnly says that the disk cannot be written.
	ReadOnly bool
}

// Bring gets the partition mounted. What can be saved is saved: the file system
// is made anew only where nothing was, or where neither mounting nor repairing
// helps. What cannot be written, as flash at the end of its life, can be neither
// repaired nor made anew, and may be whole: it is read. say tells the operator
// what happens.
func Bring(c Condition, e Edge, say func(format string, args ...any)) (Outcome, error) {
	var o Outcome
	switch c {
	case Blank:
		o.Created = true
		say("data partition: blank, it is created")
	case Unfinished:
		o.Created = true
		say("data partition: its creation was interrupted, or a factory reset was asked for: it is created")
	case Clean:
		err := e.Mount()
		if err == nil {
			return o, nil
		}
		say("data partition: %v; it is repaired", err)
	default:
		say("data partition: %v, it is repaired", c)
	}
	if !o.Created {
		if err := e.Writable(); err != nil {
			say("data partition: the disk cannot be written: %v; what is on it is read, and nothing is kept from now on: replace the disk", err)
			o.ReadOnly = true
			return o, e.MountReadOnly()
		}
		err := e.Check()
		if err == nil {
			if err = e.Mount(); err == nil {
				o.Repaired = true
				say("data partition: repaired")
				return o, nil
			}
		}
		say("data partition: cannot be repaired: %v; IT IS CREATED ANEW, what it held is lost (configuration, keys, journal, crash logs)", err)
		o.Created, o.Lost = true, true
	}
	if err := e.Create(); err != nil {
		return o, err
	}
	return o, e.Mount()
}
