package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/ha/wire"
)

// Table is the name of the netdev table.
const Table = "twinkeep_gate"

// Keys of the lease set.
const (
	keyLease = 1
	keyDrain = 2
	keyShut  = 3
)

// priority puts the gate before everything else on the hook, flowtables included.
const priority = -500

// Device is one NIC that carries heartbeats or virtual addresses.
type Device struct {
	Name string // kernel name
	// Shared is the shared MAC of the virtual addresses behind this NIC.
	Shared wire.MAC
	// VIPs are the IPv4 virtual addresses behind this NIC.
	VIPs []netip.Addr
}

// Config of a gate.
type Config struct {
	Cluster, Member uint8
	Lease           time.Duration // how long one beat keeps the gate open
	Drain           time.Duration // how long a drained gate lets frames in
	Devices         []Device
}

// Install puts the gate into the kernel, shut, in one transaction; a gate from before is replaced. It fails
// when a device does not exist.
func Install(cfg Config) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netlink for the gate: %w", err)
	}
	set := leaseSet()
	set.Dynamic, set.HasTimeout, set.Timeout, set.Size = true, true, cfg.Lease, 1024
	t := set.Table
	c.AddTable(t) // so that the deletion cannot miss it
	c.DelTable(t)
	c.AddTable(t)
	if err := c.AddSet(set, nil); err != nil {
		return fmt.Errorf("add the lease set: %w", err)
	}
	for _, d := range cfg.Devices {
		nic, err := net.InterfaceByName(d.Name)
		if err != nil {
			return fmt.Errorf("install the gate on %s: %w", d.Name, err)
		}
		addChain(c, set, d, "in-"+d.Name, nftables.ChainHookIngress, ingress(set, d))
		vips, elems := vipSet(t, d.Name, d.VIPs)
		if err := c.AddSet(vips, elems); err != nil {
			return fmt.Errorf("add the set of the VIPs of %s: %w", d.Name, err)
		}
		addChain(c, set, d, "out-"+d.Name, nftables.ChainHookEgress, egress(set, vips, d, nic.HardwareAddr, cfg))
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("install the gate (does the kernel have nf_tables with netdev egress, 5.16 or newer?): %w", err)
	}
	return nil
}

// SetVIPs changes the VIPs behind a device of the installed gate, in one transaction. Whether it is open stays as it is.
func SetVIPs(device string, vips []netip.Addr) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netlink for the gate: %w", err)
	}
	set, elems := vipSet(leaseSet().Table, device, vips)
	c.FlushSet(set)
	if err := c.SetAddElements(set, elems); err != nil {
		return fmt.Errorf("set the VIPs of %s in the gate: %w", device, err)
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("set the VIPs of %s in the gate: %w", device, err)
	}
	return nil
}

func leaseSet() *nftables.Set {
	t := &nftables.Table{Name: Table, Family: nftables.TableFamilyNetdev}
	return &nftables.Set{Table: t, Name: "lease", KeyType: nftables.TypeMark, KeyByteOrder: binaryutil.NativeEndian}
}

func addChain(c *nftables.Conn, set *nftables.Set, d Device, name string, hook *nftables.ChainHook, rules [][]expr.Any) {
	chain := c.AddChain(&nftables.Chain{
		Table: set.Table, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook,
		Priority: nftables.ChainPriorityRef(priority), Device: d.Name,
	})
	for _, r := range rules {
		c.AddRule(&nftables.Rule{Table: set.Table, Chain: chain, Exprs: r})
	}
}

// Refused reports whether err, from sending a heartbeat, may be the gate's own refusal of a late one: the
// kernel tells the sender of a frame that a netfilter hook dropped it (net/core/dev.c, __dev_queue_xmit). A full
// transmit queue gives the same error, so only [Read] is proof.
func Refused(err error) bool { return errors.Is(err, unix.ENOBUFS) }

// ErrGone says that the gate is not in the kernel any more (somebody flushed the ruleset).
var ErrGone = errors.New("the gate is not in the kernel any more")

// State is what the kernel says of the gate.
type State struct{ Open, Draining bool }

// Read asks the kernel for the state of the gate. Any goroutine may call it.
func Read() (State, error) {
	c, err := nftables.New()
	if err != nil {
		return State{}, fmt.Errorf("open netlink for the gate: %w", err)
	}
	elems, err := c.GetSetElements(leaseSet())
	if err != nil {
		// The library's error has lost its cause, so ask whether the table is there at all.
		if t, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev); err == nil && !slices.ContainsFunc(t, func(t *nftables.Table) bool { return t.Name == Table }) {
			return State{}, ErrGone
		}
		return State{}, fmt.Errorf("read the lease set: %w", err)
	}
	var has [keyShut + 1]bool
	for _, e := range elems {
		if len(e.Key) == 4 {
			if k := binary.NativeEndian.Uint32(e.Key); k < uint32(len(has)) && e.Expires > 0 {
				has[k] = true
			}
		}
	}
	return State{Open: has[keyLease] && !has[keyShut], Draining: has[keyDrain]}, nil
}

// Remove takes the gate out of the kernel. Only for a member whose virtual addresses are gone already:
// without a gate, they answer.
func Remove() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netlink for the gate: %w", err)
	}
	c.DelTable(leaseSet().Table)
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the gate: %w", err)
	}
	return nil
}
