package gatewayd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/policy"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/ruleset"
	"github.com/twinkeep/twinkeep/firmware/ruleset/rules"
)

const uninstalled = "the policy was uninstalled by an operator: policy recover or policy install ends that"

// closedRules are those of a box without a policy: nothing passes, and nothing reaches the box but the other members, on
// the sync interface. Where there is none they get in for policies from every subnet of the box: they prove who they are.
func closedRules(n *node.Node) *rules.Rules {
	r := ruleset.FromNode(n)
	r.Forward, r.DNAT, r.SNAT, r.Input, r.Fast = nil, nil, nil, nil, false
	for i := range r.Zones {
		r.Zones[i].Ping = false
	}
	if slices.ContainsFunc(n.Interfaces, func(f node.Interface) bool { return f.Sync }) {
		return r
	}
	m := rules.Match{Services: []rules.Service{{Proto: rules.TCP, First: rules.PolicyPort, Last: rules.PolicyPort, Type: rules.AnyType}}}
	for _, z := range r.Zones {
		m.From = append(m.From, z.Name)
	}
	for i := range n.Interfaces {
		for _, a := range n.Interfaces[i].Prefixes() {
			m.Src = append(m.Src, rules.RangeOf(a))
		}
	}
	if len(m.From) > 0 && len(m.Src) > 0 {
		m.Src = rules.Merge(m.Src)
		r.Input = []rules.Filter{{ID: "closed/members", Match: m, Action: rules.Accept}}
	}
	return r
}

// parsed remembers the newest documents: each is looked at several times on its way into force.
type parsed struct {
	mu   sync.Mutex
	list []parsedDocument
}

type parsedDocument struct {
	sum    [sha256.Size]byte
	policy *policy.Policy
}

const keepParsed = 2

func (c *parsed) parse(document []byte) (*policy.Policy, error) {
	sum := sha256.Sum256(document)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.list {
		if d.sum == sum {
			return d.policy, nil
		}
	}
	p, _, err := policy.Parse("policy", document)
	if err != nil {
		return nil, brief(err)
	}
	c.list = append(c.list, parsedDocument{sum, p})
	c.list = c.list[max(0, len(c.list)-keepParsed):]
	return p, nil
}

// brief gives the first fault of a document: the others are for policy check.
func brief(err error) error {
	var faults node.ErrorList
	if !errors.As(err, &faults) || len(faults) == 0 {
		return err
	}
	if len(faults) == 1 {
		return errors.New(faults[0].Error())
	}
	return fmt.Errorf("%s (and %d more faults)", faults[0].Error(), len(faults)-1)
}

// render makes of a document what this member runs.
func (p *policies) render(document []byte) (*policy.Policy, *policy.Member, error) {
	parsed, err := p.parsed.parse(document)
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	local := p.local
	p.mu.Unlock()
	m, err := parsed.ForMember(p.settings.self, local)
	return parsed, m, err
}

// check implements fetch.Gatekeeper.
func (p *policies) check(document []byte) error {
	_, _, err := p.render(document)
	return err
}

// rehearse implements install.Node: as far as it goes without a change.
func (p *policies) rehearse(_ context.Context, document []byte) error {
	_, m, err := p.render(document)
	if err == nil {
		ruleset.Compile(m.Rules)
	}
	return err
}

// membersOf implements install.Node.
func (p *policies) membersOf(document []byte) (out []uint8) {
	parsed, err := p.parsed.parse(document)
	if err != nil {
		return p.node.Members // it is refused anyhow
	}
	for _, m := range parsed.Cluster.Members {
		out = append(out, m.ID)
	}
	return out
}

// apply brings a document into force; when it gives an error, what was before is in force. Nil closes the box.
func (p *policies) apply(_ context.Context, document []byte) error {
	if document == nil {
		p.mu.Lock()
		n := p.member
		if n == nil {
			n = p.local
		}
		p.mu.Unlock()
		return p.shut(n, "no policy is in force")
	}
	parsed, m, err := p.render(document)
	if err != nil {
		return err
	}
	if err := p.enact(m.Node, ruleset.Compile(m.Rules)); err != nil {
		return err
	}
	p.mu.Lock()
	p.policy, p.closed, p.hold, p.gone = parsed, "", "", false
	p.mu.Unlock()
	p.node.SetMembers(memberIDs(m.Node))
	p.changed(m.Node)
	return nil
}

// enact applies rules and network, or goes back.
func (p *policies) enact(n *node.Node, r *ruleset.Ruleset) error {
	d := p.d
	d.mu.Lock()
	defer d.mu.Unlock()
	before, old := d.node, d.rules
	d.enact(n, r)
	if len(d.status.Problems) == 0 {
		return nil
	}
	err := errors.New(strings.Join(d.status.Problems, "; "))
	if before != nil {
		d.enact(before, old)
		if len(d.status.Problems) > 0 {
			err = fmt.Errorf("%w; and going back: %s", err, strings.Join(d.status.Problems, "; "))
		}
	}
	return err
}

// shut closes the box, with the addresses of n.
func (p *policies) shut(n *node.Node, why string) error {
	p.mu.Lock()
	p.policy, p.closed = nil, why
	if p.gone {
		p.closed = uninstalled
	}
	p.mu.Unlock()
	d := p.d
	d.mu.Lock()
	d.enact(n, ruleset.Compile(closedRules(n)))
	problems := slices.Clone(d.status.Problems)
	d.mu.Unlock()
	p.changed(n)
	d.Log.Printf("policy: closed: %s", why)
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// readNode takes in another node file. What is in force is made anew with it.
func (p *policies) readNode(n *node.Node) {
	// The daemon's lock is held: the file's part in what runs is done by another goroutine, after it.
	p.mu.Lock()
	changed := !reflect.DeepEqual(p.local, n)
	p.local = n
	p.mu.Unlock()
	if changed {
		p.running.Go(p.anew)
	}
}

// anew brings what is in force into force again.
func (p *policies) anew() {
	if p.node == nil {
		return
	}
	p.mu.Lock()
	closed, local, m := p.closed, p.local, p.member
	p.mu.Unlock()
	var err error
	if closed == "" {
		err = p.node.Restore(p.d.ctx)
	} else if m == nil {
		err = p.shut(local, closed)
	}
	if err != nil {
		p.d.Log.Printf("policy: with the new node file: %v", err)
	}
}

// restart is a wish that had takes in other settings.
type restart struct {
	wanted bool
	soft   bool // it can while it runs
	apart  bool // members with the old settings and with the new ones must not meet: all restart at once
	since  time.Duration
	from   artifact.Ref // what had was told before the change
}

// changed compares what had runs by with what it is to run by.
func (p *policies) changed(n *node.Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.member
	if before == nil {
		before = p.local
	}
	if n != p.local {
		p.member = n
	}
	if p.inForce.Boot != "" && !node.SameHA(before, n) {
		soft := node.SameHAButVIPs(before, n)
		p.restart.soft = soft && (p.restart.soft || !p.restart.wanted)
		b, a := before.Cluster, n.Cluster
		p.restart.apart = p.restart.apart || !soft && !node.Mixable(b, a)
		if !p.restart.wanted {
			p.restart.wanted, p.restart.since, p.restart.from = true, uptime(), p.runs
		}
		if p.restart.apart {
			p.unsure = max(p.unsure, listenFor(b.Timing), listenFor(a.Timing))
		}
	}
	p.write()
	poke(p.look)
}

// write leaves what is in force for the other daemons. mu is held.
func (p *policies) write() {
	in := node.InForce{
		Node: p.member, Blocked: p.verdict.Why, Uninstalled: p.gone, Boot: bootID(), Supervisor: os.Getppid(),
		Revision: p.runs.Revision, Digest: string(p.runs.Digest),
	}
	if !p.verdict.Eligible && in.Blocked == "" {
		in.Blocked = p.closed
	}
	if !p.verdict.Eligible && in.Blocked == "" {
		in.Blocked = "it is being judged"
	}
	if p.unsure > 0 {
		in.Blocked = "the HA settings have changed: listening for what the others run"
	}
	if p.closed != "" {
		in.Revision, in.Digest, in.Blocked = 0, "", p.closed
	}
	if reflect.DeepEqual(in, p.inForce) {
		return
	}
	if err := in.Save(p.d.RunDir); err != nil {
		p.d.Log.Print(err)
	}
	p.inForce = in
}
