// Package install puts one policy in force on every member of a cluster, or on none.
//
// It is two-phase commit with presumed abort. The member that an operator talks to coordinates: every member stores the
// policy as its candidate, checks it and rehearses it ([Record.Prepare]); when all have, the coordinator writes its
// decision to its own disk, and then each member applies the candidate and makes it current ([Record.Switch]). The old
// policy is in force on a member until the new one is.
//
// What a crash leaves is settled from the disks: a member that is prepared and hears no more asks the others. One that
// has switched decides it; a coordinator that knows nothing has not decided, and never will. When nobody can be asked, a
// member gives up after PrepareLease, keeps the old policy, and the recovery order brings it the new one when the
// coordinator is back.
//
// With a time to confirm in, every member goes back to the old policy by itself unless it hears of the confirmation. The
// time is that of the monotonic clock of this boot; a reboot ends it.
//
// Record and [Coordinator] are pure. [Node] connects them to the store and the peers.
package install

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
)

// Times. The coordinator decides well before the first member may give up.
const (
	PrepareLimit = 90 * time.Second // for all members to prepare
	PrepareLease = 2 * time.Minute  // a member stays prepared without asking anybody
	MaxConfirm   = 24 * time.Hour
)

// keepDecisions is how many past transactions a member can still answer for.
const keepDecisions = 32

// Transaction is one install, as all members know it.
type Transaction struct {
	ID          string        `json:"id"` // 32 hexadecimal digits, at random
	Policy      artifact.Ref  `json:"policy"`
	Coordinator uint8         `json:"coordinator"`
	Members     []uint8       `json:"members"` // who takes part, ascending, the coordinator too
	Operator    string        `json:"operator"`
	Confirm     time.Duration `json:"confirm_ns,omitempty"` // 0: for good; else it goes back unless confirmed within
	// Again: an operator wants a revision that was rolled back or refused before.
	Again bool `json:"again,omitempty"`
}

func (tx Transaction) check() error {
	id, err := hex.DecodeString(tx.ID)
	switch {
	case err != nil || len(id) != 16:
		return fmt.Errorf("transaction ID %.40q", tx.ID)
	case tx.Policy.Revision == 0:
		return errors.New("revision 0 is none")
	case len(tx.Members) == 0 || !slices.IsSorted(tx.Members) || len(slices.Compact(slices.Clone(tx.Members))) != len(tx.Members):
		return fmt.Errorf("members %.20v: want them ascending", tx.Members)
	case tx.Members[0] < 1 || tx.Members[len(tx.Members)-1] > peerapi.MaxMember:
		return fmt.Errorf("members %.20v: want 1 to %d", tx.Members, peerapi.MaxMember)
	case !slices.Contains(tx.Members, tx.Coordinator):
		return fmt.Errorf("coordinator %d takes no part", tx.Coordinator)
	case tx.Confirm < 0 || tx.Confirm > MaxConfirm:
		return fmt.Errorf("time to confirm %v: want 0 to %v", tx.Confirm, MaxConfirm)
	case len(tx.Operator) > artifact.MaxText || !printable(tx.Operator):
		return fmt.Errorf("operator %.40q", tx.Operator)
	}
	return artifact.CheckDigest(tx.Policy.Digest)
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// String is what an operator reads who comes too late.
func (tx Transaction) String() string {
	return fmt.Sprintf("the install of %s by %s through member %d", tx.Policy, tx.Operator, tx.Coordinator)
}

// Instant is a time on the monotonic clock of one boot, which goes on while processes are restarted.
type Instant struct {
	Boot string        `json:"boot"` // differs for every boot
	At   time.Duration `json:"at_ns"`
}

// left is the time until i; 0 when it has passed, or belongs to another boot.
func (i Instant) left(now Instant) time.Duration {
	if i.Boot != now.Boot {
		return 0
	}
	return max(i.At-now.At, 0)
}

func (i Instant) after(d time.Duration) Instant { return Instant{i.Boot, i.At + d} }

// Fate of a transaction on one member.
type Fate string

// Fates.
const (
	Unknown    Fate = "unknown" // never heard of, or long ago
	Undecided  Fate = "undecided"
	Aborted    Fate = "aborted"
	Committed  Fate = "committed" // decided, or in force; unconfirmed, if it is to be confirmed
	Confirmed  Fate = "confirmed"
	RolledBack Fate = "rolled back"
)

// Decision is the end of a transaction.
type Decision struct {
	ID   string `json:"id"`
	Fate Fate   `json:"fate"`
}

// Prepared is a promise to a coordinator.
type Prepared struct {
	Transaction
	Until Instant `json:"until"` // then ask the others
}

// Pending is a policy in force that goes back.
type Pending struct {
	Transaction
	Previous artifact.Ref `json:"previous"` // zero: there was none
	Until    Instant      `json:"until"`
}

// Record is what a member has on its disk about installs. Methods give the next record and leave this one as it is.
type Record struct {
	Prepared *Prepared  `json:"prepared,omitempty"`
	Pending  *Pending   `json:"pending,omitempty"`
	Decided  []Decision `json:"decided,omitempty"` // the last ones, oldest first
	// Left is what the others switched to without this member, which had rejected it; zero: nothing.
	Left artifact.Ref `json:"left,omitzero"`
	// Missed is what another member was heard to run, newer than what runs here; zero: nothing.
	Missed Missed `json:"missed,omitzero"`
}

// Missed is a policy that the cluster runs without this member, by the other's heartbeats.
type Missed struct {
	Revision uint64 `json:"revision"`
	Digest   string `json:"digest"` // its first eight bytes, in hexadecimal
	Who      string `json:"who"`    // the member that ran it
}

// String is what an operator reads.
func (m Missed) String() string {
	return fmt.Sprintf("revision %d (%.8s), which %s ran", m.Revision, m.Digest, m.Who)
}

// Facts are what the store has.
type Facts struct {
	Current artifact.Ref // in force
	Floor   uint64
	Refused string // of the policy that is to be installed; empty: not refused
}

// ErrBusy is matched by the errors of a member that cannot now, and may be able to soon.
var ErrBusy = errors.New("busy")

// BusyError says what else is under way. It matches ErrBusy.
type BusyError struct {
	Transaction Transaction
	Confirming  bool
}

// Unwrap gives ErrBusy.
func (e *BusyError) Unwrap() error { return ErrBusy }

func (e *BusyError) Error() string {
	if e.Confirming {
		return fmt.Sprintf("%s awaits its confirmation: end it with policy confirm or policy cancel first", e.Transaction)
	}
	return fmt.Sprintf("%s is under way: wait for its end", e.Transaction)
}

// Prepare promises to switch, once the candidate is stored, checked and rehearsed.
func (r Record) Prepare(tx Transaction, f Facts, now Instant) (Record, error) {
	switch {
	case r.Prepared != nil && r.Prepared.ID == tx.ID:
		return r, nil // the answer was lost
	case r.Prepared != nil:
		return r, &BusyError{Transaction: r.Prepared.Transaction}
	case r.Pending != nil:
		return r, &BusyError{Transaction: r.Pending.Transaction, Confirming: true}
	case r.Fate(tx.ID) != Unknown:
		return r, fmt.Errorf("transaction %s has ended here: %s", tx.ID, r.Fate(tx.ID))
	case tx.Policy.Digest == f.Current.Digest:
		// A member that has it already, by the recovery order, takes part without a change.
	case tx.Policy.Revision <= f.Current.Revision:
		return r, fmt.Errorf("%s is not newer than what runs here, %s: publish it again as a new revision", tx.Policy, f.Current)
	case tx.Policy.Revision <= f.Floor:
		return r, fmt.Errorf("%s is a replay: revision %d was in force here", tx.Policy, f.Floor)
	case f.Refused != "" && !tx.Again:
		return r, fmt.Errorf("%s was refused here before (%s): use --again to install it nevertheless", tx.Policy, f.Refused)
	}
	r.Prepared = &Prepared{Transaction: tx, Until: now.after(PrepareLease)}
	return r, nil
}

// Switch makes the candidate current. previous was in force.
func (r Record) Switch(id string, previous artifact.Ref, now Instant) (Record, error) {
	if r.Prepared == nil || r.Prepared.ID != id {
		if f := r.Fate(id); f == Committed || f == Confirmed {
			return r, nil // the answer was lost
		}
		return r, fmt.Errorf("transaction %s is not prepared here: %s", id, r.Fate(id))
	}
	tx := r.Prepared.Transaction
	r.Prepared, r.Left = nil, artifact.Ref{}
	if tx.Confirm > 0 && previous.Digest != tx.Policy.Digest {
		r.Pending = &Pending{Transaction: tx, Previous: previous, Until: now.after(tx.Confirm)}
	}
	return r.decide(id, Committed), nil
}

// Decide is the coordinator's decision. From here on the install goes through.
func (r Record) Decide(id string) (Record, error) {
	if r.Prepared == nil || r.Prepared.ID != id {
		return r, fmt.Errorf("transaction %s is not prepared here: it took too long", id)
	}
	return r.decide(id, Committed), nil
}

// Abort drops the promise. It has no effect on what was switched.
func (r Record) Abort(id string) Record {
	if r.Prepared != nil && r.Prepared.ID == id && r.Fate(id) != Committed {
		r.Prepared = nil
	}
	if f := r.Fate(id); f == Unknown || f == Undecided {
		r = r.decide(id, Aborted)
	}
	return r
}

// Fail is Abort for a member whose candidate does not apply. A coordinator's decision stands for the others.
func (r Record) Fail(id string) Record {
	if r.Prepared != nil && r.Prepared.ID == id {
		r.Prepared = nil
	}
	return r.Abort(id)
}

// Confirm keeps what is in force.
func (r Record) Confirm(id string) (Record, error) {
	if r.Pending == nil || r.Pending.ID != id {
		if r.Fate(id) == Confirmed {
			return r, nil
		}
		return r, fmt.Errorf("nothing to confirm here: transaction %s is %s", id, r.Fate(id))
	}
	r.Pending = nil
	return r.decide(id, Confirmed), nil
}

// RollBack is the end of a policy that was not confirmed.
func (r Record) RollBack(id string) (Record, error) {
	if r.Pending == nil || r.Pending.ID != id {
		if r.Fate(id) == RolledBack {
			return r, nil
		}
		return r, fmt.Errorf("nothing to roll back here: transaction %s is %s", id, r.Fate(id))
	}
	r.Pending = nil
	return r.decide(id, RolledBack), nil
}

func (r Record) decide(id string, f Fate) Record {
	decided := slices.DeleteFunc(slices.Clone(r.Decided), func(d Decision) bool { return d.ID == id })
	decided = append(decided, Decision{id, f})
	r.Decided = decided[max(0, len(decided)-keepDecisions):]
	return r
}

// Fate tells what became of a transaction here.
func (r Record) Fate(id string) Fate {
	for _, d := range r.Decided {
		if d.ID == id {
			return d.Fate
		}
	}
	if r.Prepared != nil && r.Prepared.ID == id {
		return Undecided
	}
	return Unknown
}

// Due is what has to be settled now.
type Due int

// What can be due.
const (
	Nothing      Due = iota
	Finish           // this member has decided, and not switched yet: it crashed in between
	AskPrepared      // ask the others what became of Prepared, then call Resolve
	AskConfirmed     // ask the others whether Pending was confirmed, then roll it back unless it was
	RollBackNow      // Pending is of another boot
)

// Due looks at the clock. asked is whether the others may be asked before the lease is over: at the start of a process,
// and from time to time.
func (r Record) Due(now Instant, asked bool) Due {
	switch p := r.Prepared; {
	case p != nil && r.Fate(p.ID) == Committed:
		return Finish
	case p != nil && (asked || p.Until.left(now) == 0):
		return AskPrepared
	case r.Pending != nil && r.Pending.Until.Boot != now.Boot:
		return RollBackNow
	case r.Pending != nil && r.Pending.Until.left(now) == 0:
		return AskConfirmed
	}
	return Nothing
}

// Resolve judges what the others said about Prepared. Members that did not answer are not in fates.
func (r Record) Resolve(fates map[uint8]Fate, self uint8, now Instant) Fate {
	coordinator, heard := fates[r.Prepared.Coordinator]
	for _, f := range fates {
		if f == Committed || f == Confirmed {
			return Committed
		}
	}
	for _, f := range fates {
		if f == Aborted || f == RolledBack {
			return Aborted
		}
	}
	switch {
	case heard && coordinator == Unknown:
		return Aborted // presumed: it decides on its disk before it tells anybody
	case r.Prepared.Coordinator == self:
		return Aborted // this member coordinates, has not decided, and is not at it any more
	case r.Prepared.Until.left(now) == 0:
		return Aborted
	}
	return Undecided
}
