package gatewayd

import (
	"context"
	"fmt"
	"log"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/license"
	"github.com/twinkeep/twinkeep/firmware/license/lockdown"
	"github.com/twinkeep/twinkeep/firmware/license/store"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/ruleset"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/hal/rtnl"
	"github.com/twinkeep/twinkeep/init/supervise"
)

// licenceDevice is the critical device of the licence.
const licenceDevice = "Licence"

// lockdownState is what had is told of a member in lockdown: its gate is shut, whether another member is fit or not.
const lockdownState = "lockdown"

// locker shuts the box to all but management, and opens it again. Either may be repeated.
type locker interface {
	Lockdown(ctx context.Context, on bool) error
}

// licensing holds the licence of the box and acts on what its machine decides. Its lock is taken inside that of the
// daemon, never the other way round.
type licensing struct {
	store   store.Store
	ring    license.Ring
	log     *log.Logger
	changed chan struct{}       // the verdict is another one: tell had
	soon    chan struct{}       // ask the licence server now
	ledgers chan license.Ledger // to be written, the newest
	written chan struct{}       // closed when the last is

	mu          sync.Mutex
	machine     *license.Machine
	licence     *license.Licence // as the file says, believed when fault is empty; nil when there is none
	key         string
	fault       string
	lock        locker
	management  []netip.Addr
	ports       []uint16 // of management
	answer      *license.Answer
	unreachable string
	verdict     license.Verdict
	locked      bool   // the table is in
	failed      string // why the table is not as it should be
	closed      bool
}

func newLicensing(opts Options) *licensing {
	l := &licensing{store: store.In(opts.StateDir), ring: opts.Keys, log: opts.Log, changed: make(chan struct{}, 1), soon: make(chan struct{}, 1), locked: true}
	if l.ring == nil {
		ring, err := license.Pinned()
		if err != nil {
			l.log.Print(err)
		}
		l.ring = ring
	}
	l.lock = lockdown.Table{Management: func() []netip.Addr { return l.management }, Ports: func() []uint16 { return l.ports }}
	ledger, err := l.store.Ledger()
	if err != nil {
		l.log.Printf("%v; the demo counts as used", err)
	}
	l.machine = license.NewMachine(ledger, license.Built(), bootID(), supervise.Uptime())
	l.load()
	l.ledgers, l.written = make(chan license.Ledger, 1), make(chan struct{})
	go l.writeLedgers()
	return l
}

// load reads the installed licence.
func (l *licensing) load() {
	l.licence, l.key, l.fault = nil, "", ""
	file, err := l.store.Licence()
	if err != nil {
		l.fault = fmt.Sprintf("it cannot be read: %v", err)
		return
	}
	if file != nil {
		l.licence, l.key, l.fault = open(file, l.ring)
	}
}

// open reads a licence file. The licence is given when the form is good; fault says why it is not to be believed.
func open(file []byte, ring license.Ring) (l *license.Licence, key, fault string) {
	signed, err := license.Parse(file)
	if err != nil {
		return nil, "", err.Error()
	}
	if _, err := signed.Verify(ring); err != nil {
		fault = err.Error()
	}
	return signed.Licence, signed.KeyID, fault
}

// input completes the world with a licence. l.mu is held.
func (l *licensing) input(world license.Input, licence *license.Licence, fault string) license.Input {
	world.Now, world.Wall = supervise.Uptime(), time.Now()
	world.Fault = fault
	if fault == "" {
		world.Licence = licence
	}
	world.Unreachable = l.unreachable
	return world
}

// judge lets the machine decide about the world as it is now, and acts on it.
func (l *licensing) judge(world license.Input, management []netip.Addr, ports []uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	moved := !slices.Equal(l.management, management) || !slices.Equal(l.ports, ports)
	l.management, l.ports = management, ports
	in := l.input(world, l.licence, l.fault)
	in.Answer, l.answer = l.answer, nil
	v := l.machine.Step(in)
	for _, n := range v.Notices {
		l.log.Printf("licence: %s", n)
	}
	if v.State != l.verdict.State || v.Reason != l.verdict.Reason {
		select {
		case l.changed <- struct{}{}:
		default: // one is on its way
		}
	}
	l.verdict = v
	l.enforce(v.State == license.Lockdown, moved)
	if l.machine.Due() {
		l.keep(l.machine.Ledger())
		l.machine.Written()
	}
}

// enforce puts the lockdown table in or takes it out, and puts it back when somebody else took it out.
func (l *licensing) enforce(on, moved bool) {
	if on && l.locked && !moved {
		if there, err := lockdown.Present(); err != nil || there {
			return
		}
	}
	if !on && !l.locked {
		return
	}
	err := l.lock.Lockdown(context.Background(), on)
	if l.locked = on; err == nil {
		l.failed = ""
		return
	}
	l.locked = !on // try again at the next judgement
	if l.failed != err.Error() {
		l.failed = err.Error()
		l.log.Print(err)
	}
}

// keep asks for the ledger to be written; a newer one replaces one that still waits.
func (l *licensing) keep(ledger license.Ledger) {
	select {
	case <-l.ledgers:
	default:
	}
	l.ledgers <- ledger
}

// writeLedgers writes beside everything else: a disk that hangs must not make this daemon look dead. What cannot be
// written counts in memory until it can.
func (l *licensing) writeLedgers() {
	defer close(l.written)
	for ledger := range l.ledgers {
		if err := l.store.PutLedger(ledger); err != nil {
			l.log.Printf("licence: %v", err)
		}
	}
}

// close remembers an orderly end. Requests that are still being served judge nothing any more.
func (l *licensing) close() {
	l.mu.Lock()
	l.keep(l.machine.Close())
	l.closed = true
	l.mu.Unlock()
	close(l.ledgers)
	<-l.written
}

// try tells what would be in another world, beside what is.
func (l *licensing) try(world license.Input) (would, now license.Verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.machine.Try(l.input(world, l.licence, l.fault)), l.verdict
}

// report is what had is told.
func (l *licensing) report() api.DeviceReport {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := api.DeviceReport{State: "ok", Text: short(l.verdict.State.String()), Timeout: member.Duration(deviceTimeout)}
	switch {
	case l.verdict.State == license.Lockdown:
		r.State, r.Text = lockdownState, short("lockdown: "+l.verdict.Reason)
	case l.failed != "":
		r.State, r.Text = "problem", short(l.failed)
	}
	return r
}

// status is what the console shows.
func (l *licensing) status() api.LicenceStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.verdict
	s := api.LicenceStatus{
		State: v.State.String(), Reason: v.Reason, Leave: v.Leave, Remaining: member.Duration(v.Remaining),
		Licence: l.licence, Key: l.key, Fault: l.fault, Registration: v.Registration,
		Time: v.Time.Format(time.RFC3339), Warnings: v.Warnings, Keys: slices.Sorted(maps.Keys(l.ring)), Lab: license.Lab,
	}
	if l.failed != "" {
		s.Warnings = append(s.Warnings, l.failed)
	}
	if l.licence != nil && l.licence.Server != "" {
		s.Contact = &api.ContactStatus{Server: l.licence.Server, Last: member.Duration(l.machine.Away()), Error: l.unreachable}
	}
	return s
}

// judge judges the world as it is now. d.mu is held.
func (d *daemon) judge() {
	var management []netip.Addr
	var ports []uint16
	if d.node != nil {
		for _, p := range []uint16{d.node.SSH.Listen(), d.node.API.Port} {
			if p != 0 && !slices.Contains(ports, p) {
				ports = append(ports, p)
			}
		}
		for i := range d.node.Interfaces {
			if f := &d.node.Interfaces[i]; f.Zone != node.ZoneWAN {
				for _, p := range f.Prefixes() {
					management = append(management, p.Addr())
				}
			}
		}
	}
	d.licence.judge(d.world(), management, ports)
	d.keepFast()
}

// keepFast keeps the flowtable out in lockdown, and puts it back after that: its connections pass no filter but those of the ingress hook, and the gate stands only
// before the shared MAC. New ones do not get in, because the table of the lockdown comes first. d.mu is held.
func (d *daemon) keepFast() {
	var err error
	if d.licence.locks() {
		var was bool
		if was, err = ruleset.EndFast(); was && err == nil {
			d.slow = true
			d.Log.Print("lockdown: the flowtable is taken out")
		}
	} else if d.slow && d.rules != nil && d.closed {
		if err = d.rules.Apply(); err == nil {
			d.slow = false
			d.Log.Print("the lockdown is over: the flowtable is back")
		}
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != d.slowFault && text != "" {
		d.Log.Print(text)
	}
	d.slowFault = text
}

// locks reports whether the lockdown table is meant to be in.
func (l *licensing) locks() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.verdict.State == license.Lockdown
}

// keepJudging judges every second until ctx ends: time passes, and not every change is told.
func (d *daemon) keepJudging(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		d.mu.Lock()
		d.judge()
		d.mu.Unlock()
	}
}

// world is what the licence is judged by, apart from the licence and time. d.mu is held.
func (d *daemon) world() license.Input {
	var in license.Input
	if d.node == nil {
		in.Ports = everyPort()
		// Without a node file in force, the one that is refused says what the operator wants.
		for _, p := range d.status.Errors {
			if name := p.UnspecifiedVIP; name != "" && !slices.Contains(in.Unspecified, name) {
				in.Unspecified = append(in.Unspecified, name)
			}
		}
		return in
	}
	in.Registration = d.node.Registration
	for i := range d.node.Interfaces {
		f := &d.node.Interfaces[i]
		p := license.Port{Name: f.Name, Device: f.Device}
		if link, err := netlink.LinkByName(f.Device); err == nil {
			describePort(&p, link)
		}
		in.Ports = append(in.Ports, p)
		if slices.ContainsFunc(f.VIPs, netip.Addr.IsUnspecified) {
			in.Unspecified = append(in.Unspecified, f.Name)
		}
	}
	return in
}

// everyPort lists the NICs of a box that has no node file in force. Nobody has set them up, so that does not count.
func everyPort() (ports []license.Port) {
	links, err := rtnl.Links()
	if err != nil {
		return nil // then no interface has the MAC, which is said
	}
	for _, link := range links {
		name := link.Attrs().Name
		if name == "lo" || strings.HasSuffix(name, node.VIPSuffix) {
			continue
		}
		p := license.Port{Name: name, Device: name}
		describePort(&p, link)
		p.Up = true
		ports = append(ports, p)
	}
	return ports
}

// describePort takes the burnt-in MAC where the driver tells it: the other one anybody can set.
func describePort(p *license.Port, link netlink.Link) {
	a := link.Attrs()
	p.Present, p.Up = true, a.RawFlags&unix.IFF_UP != 0
	p.MAC = a.HardwareAddr.String()
	if none := make(net.HardwareAddr, len(a.PermHWAddr)); len(a.PermHWAddr) == 6 && !slices.Equal(a.PermHWAddr, none) {
		p.MAC = a.PermHWAddr.String()
	}
}

// bootID names this boot of the kernel (random(4)).
func bootID() string { return firstLine("/proc/sys/kernel/random/boot_id") }

// markInterfaces says how each NIC stands to the licence, and which an operator has disabled.
func (d *daemon) markInterfaces(list []api.Interface) {
	d.mu.Lock()
	defer d.mu.Unlock()
	in := d.world()
	l := d.licence
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range list {
		f := &list[i]
		f.Disabled = d.disabled.has(f.Name)
		if l.licence == nil {
			continue
		}
		mac := f.MAC
		for _, p := range in.Ports {
			if p.Name == f.Name && p.Present {
				mac = p.MAC
			}
		}
		bound := mac == l.licence.MAC
		named := in.Registration == f.Name
		switch {
		case bound && (named || in.Registration == "") && l.fault == "":
			f.Registration = "matches licence " + l.licence.ID
		case bound && (named || in.Registration == ""):
			f.Registration = "matches, but the licence is not valid"
		case bound:
			f.Registration = "has the licence's MAC, but is not the registration interface"
		case named:
			f.Registration = "registration interface, does not match the licence"
		}
	}
}
