package gatewayd

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/license"
	"github.com/twinkeep/twinkeep/firmware/netconf"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/ruleset"
	"github.com/twinkeep/twinkeep/firmware/secrets"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

// Options of Run.
type Options struct {
	ConfigDir string // has the node file
	StateDir  string // what survives a restart: the licence, disabled interfaces; nothing is kept without it
	RunDir    string // has the sockets
	// Ready is called once, when the socket is served and the node file was tried; may be nil.
	Ready func()
	// Keys are those that licences are believed by; nil means those of this firmware.
	Keys license.Ring
	// Log takes one line an event; nil means standard error, which is the journal.
	Log *log.Logger
}

// daemon is one running gatewayd. The network namespace it manages is that of the process.
type daemon struct {
	Options

	// mu is held during an application: there is one at a time, and whoever asks for the status sees its end.
	mu       sync.Mutex
	node     *node.Node       // in force; nil until there was a good file
	rules    *ruleset.Ruleset // that belong to node
	closed   bool             // rules are in
	slow     bool             // without their flowtable, by a lockdown
	status   api.NodeStatus
	monitors monitors
	ctx      context.Context // of Run: the monitors live as long
	disabled disabled
	licence  *licensing
	policies atomic.Pointer[policies] // nil on a box that runs by its node file alone
	captures atomic.Int32             // that run
	peering  *peering
	ways     ways // to the other members
	traffic  recording
	// verifying counts the verifications that run.
	verifying atomic.Int32

	reloading sync.Mutex // held by whoever reads the node file and starts or ends policies
	started   bool       // the node file was read once

	slowFault string // why the flowtable is not as it should be

	fault string        // why the box is closed, apart from what went wrong while it was brought to node
	again *time.Timer   // applies node again
	delay time.Duration // until the next try of an application that failed; 0 when none has
}

// Run serves until ctx ends. It leaves the network as it is then: traffic goes on while gatewayd is restarted.
func Run(ctx context.Context, opts Options) error {
	if opts.Log == nil {
		opts.Log = log.New(os.Stderr, "", 0)
	}
	if err := os.MkdirAll(opts.RunDir, 0o755); err != nil {
		return fmt.Errorf("gatewayd: %w", err)
	}
	ln, err := unixhttp.Listen(filepath.Join(opts.RunDir, api.GatewaydSocket))
	if err != nil {
		return fmt.Errorf("gatewayd: %w", err)
	}
	defer ln.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Until there is a good file nothing passes; rules that a gatewayd before this one left stay.
	if closed, err := ruleset.EnsureClosed(); err != nil {
		opts.Log.Printf("the box cannot be closed: %v", err)
	} else if closed {
		opts.Log.Print("closed: nothing passes until there are rules")
	}
	d := &daemon{Options: opts, monitors: monitors{client: api.NewClient(opts.RunDir)}, ctx: ctx, peering: newPeering()}
	d.disabled = readDisabled(opts, d.Log.Printf)
	d.licence = newLicensing(opts)
	d.again = time.AfterFunc(time.Hour, d.applyAgain)
	defer d.again.Stop()
	var watching sync.WaitGroup
	watching.Go(func() { d.servePeers(ctx) })
	d.reload()
	defer d.endPolicies()
	watching.Go(func() { d.keepJudging(ctx) })
	watching.Go(func() { d.keepContact(ctx) })
	watching.Go(func() { d.watch(ctx) })
	watching.Go(func() { d.recordTraffic(ctx) })
	watching.Go(func() { d.report(ctx) })
	watching.Go(func() {
		secrets.Watch(ctx, func(err error) { d.Log.Printf("what was changed in %s is not kept: %v", d.ConfigDir, err) })
	})
	defer d.licence.close()
	defer d.monitors.end()
	defer watching.Wait()
	defer cancel()
	if opts.Ready != nil {
		opts.Ready()
	}
	return unixhttp.Serve(ctx, ln, d.handler())
}

// reload reads the node file and, when it is good, applies it, or what the policy makes of it.
func (d *daemon) reload() api.NodeStatus {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	n, warnings, err := node.Load(d.ConfigDir)
	settings := policySettings{}
	if err == nil {
		settings = loadPolicySettings(d.Options, n)
		if fault := settings.fault(); fault != nil && d.policies.Load() != nil {
			err = fault // what ran before goes on
		} else {
			d.changePolicies(settings, n)
			d.peering.become(n)
		}
	}
	d.started = true
	d.mu.Lock()
	defer d.mu.Unlock()
	status := api.NodeStatus{File: filepath.Join(d.ConfigDir, node.FileName), Warnings: warnings}
	if err != nil {
		status.Errors = problems(status.File, err)
		status.Running = d.node != nil
		// What is in force has not changed, nor have its troubles.
		status.Hostname, status.Cluster = d.status.Hostname, d.status.Cluster
		status.Missing, status.Problems = d.status.Missing, d.status.Problems
		d.status = status
		for _, p := range status.Errors {
			d.Log.Print(p.Error())
		}
		d.Log.Printf("the node file is not used; fix it with: node edit")
		d.judge()
		return d.nodeStatus()
	}
	status.Running = d.status.Running
	status.Hostname = n.Hostname
	if n.Cluster != nil {
		status.Cluster = fmt.Sprintf("%s (%d)", n.Cluster.Name, n.Cluster.ID)
	}
	if d.policies.Load() != nil { // it has applied what it has, and goes on doing so
		status.Applied, status.Missing, status.Problems, status.Changes = d.status.Applied, d.status.Missing, d.status.Problems, d.status.Changes
	}
	d.status, d.fault = status, ""
	for _, p := range warnings {
		d.Log.Printf("warning: %s", p.Error())
	}
	switch p := d.policies.Load(); {
	case p != nil:
		p.readNode(n)
	case settings.wanted: // and cannot be had
		d.fault = settings.problem
		d.enact(n, ruleset.Compile(closedRules(n)))
	default:
		d.enact(n, ruleset.New(n))
	}
	return d.nodeStatus()
}

// nodeStatus is the status with what the box runs instead, if it does. d.mu is held.
func (d *daemon) nodeStatus() api.NodeStatus {
	s := d.status
	if p := d.policies.Load(); p != nil {
		s.Policy = p.name()
	}
	return s
}

// enact makes a node and its rules those in force. d.mu is held. What did not go through is in d.status.Problems.
func (d *daemon) enact(n *node.Node, rules *ruleset.Ruleset) {
	d.node, d.rules, d.closed = n, rules, false
	d.monitors.restart(d.ctx, n)
	d.apply()
}

// problems gives the faults of a node file, whatever kind of error it is.
func problems(file string, err error) []node.Problem {
	var list node.ErrorList
	if errors.As(err, &list) {
		return list
	}
	return []node.Problem{{File: file, Message: err.Error()}}
}

// apply brings the box to d.node. The order is the safety of it: no packet passes before its rules are in.
func (d *daemon) apply() {
	before := d.status.Problems
	d.status.Problems, d.status.Changes, d.status.Missing = nil, nil, nil
	d.status.Applied = false
	fail := func(err error) {
		d.status.Problems = append(d.status.Problems, err.Error())
		if !slices.Contains(before, err.Error()) {
			d.Log.Print(err)
		}
	}
	if d.fault != "" {
		fail(errors.New(d.fault))
	}
	standing := len(d.status.Problems)
	defer func() { d.applyLater(len(d.status.Problems) > standing) }()
	if !d.closed {
		if err := d.rules.Apply(); err != nil {
			fail(err)
			return
		}
		d.closed = true
		d.Log.Print("ruleset in force")
	}
	config := netconf.New(d.node)
	config.Disabled = d.disabled.devices(d.node)
	result, err := config.Apply()
	if err != nil {
		fail(err)
	}
	d.status.Changes = result.Changes
	for _, l := range result.Missing {
		d.status.Missing = append(d.status.Missing, api.MissingNIC{Name: l.Name, Device: l.Device})
		d.Log.Printf("interface %s: there is no device %s", l.Name, l.Device)
	}
	d.judge() // lockdown, if it is one, before the first packet is forwarded
	changed, err := netconf.Forward()
	if err != nil {
		fail(err)
	}
	if changed {
		d.status.Changes = append(d.status.Changes, "forwarding on")
	}
	for _, c := range d.status.Changes {
		d.Log.Print(c)
	}
	d.status.Running, d.status.Applied = true, len(d.status.Errors) == 0 // it is not the newest file that runs, if that is refused
}
