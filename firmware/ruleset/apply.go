package ruleset

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

// Result is what Apply found.
type Result struct {
	Fast   bool   // established connections go through the flowtable
	Reason string // why not, when the rules want it
}

// Apply replaces the table in the network namespace of the calling thread. It is one transaction: on an error, which
// names the part that was refused, the kernel keeps what it had. Established connections stay, and the counters of rules
// that were there before go on.
func (r *Ruleset) Apply() error {
	_, err := r.Install()
	return err
}

// Install is Apply, and tells about the fast path: it needs a kernel with flowtables and covers the devices there are.
func (r *Ruleset) Install() (Result, error) {
	old, err := readTable(r.setNames())
	if err != nil {
		old = nil // nothing of it can stay then; the rules are what matters
	}
	wanted := r.carrying(old)
	var result Result
	if len(wanted.fast) > 0 {
		wanted.fast = existing(wanted.fast)
		if len(wanted.fast) == 0 {
			result.Reason = "none of the devices is there yet"
		}
	}
	if len(wanted.fast) > 0 {
		err := wanted.send(old)
		if err == nil {
			return Result{Fast: true}, nil
		}
		refusal, ok := errors.AsType[*Refusal](err)
		if !ok || refusal.Part != flowtable {
			return result, err
		}
		result.Reason = "this kernel has no flowtables: " + refusal.Err.Error()
	}
	return result, wanted.withoutFast().send(old)
}

// send replaces what old holds. When the table is not as it was read, because something else changes it too, the whole
// table is replaced.
func (r *Ruleset) send(old *present) error {
	list, err := r.messages(old)
	if err != nil {
		return fmt.Errorf("apply ruleset: %w", err)
	}
	err = transact(list)
	if refusal, ok := errors.AsType[*Refusal](err); ok && strings.HasPrefix(refusal.Part, leftover) {
		return r.send(nil)
	}
	if err != nil {
		return fmt.Errorf("apply ruleset: the kernel refused it, the old rules are in force: %w", err)
	}
	return nil
}

// existing are the devices that exist: a flowtable with another is refused.
func existing(devices []string) []string {
	var out []string
	for _, d := range devices {
		if _, err := net.InterfaceByName(d); err == nil {
			out = append(out, d)
		}
	}
	return out
}

// Closed is the ruleset of a box that has nothing to go by yet: nothing passes, and nothing reaches the box but answers
// to it and what IPv6 needs on a link. It is what the box starts with.
func Closed() *Ruleset { return Compile(&rules.Rules{}) }

// EnsureClosed applies Closed when there is no table yet: from the first moment on something is in force, and a daemon
// that is started again does not interrupt the traffic. It reports whether it did.
func EnsureClosed() (bool, error) {
	old, err := readTable(nil)
	if err != nil || old != nil {
		return false, err
	}
	return true, Closed().Apply()
}

// Remove takes the table out: everything is accepted again. It is no error when there is none.
func Remove() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("remove ruleset: open netlink: %w", err)
	}
	c.DelTable(&nftables.Table{Name: Table, Family: nftables.TableFamilyINet})
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove ruleset: %w", err)
	}
	return nil
}
