// Package verify judges what the members of a cluster say of themselves: the response after a failover, step by step (Trustgrid,
// "Cluster Failover Response"). It is pure: the evidence is collected elsewhere.
package verify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
)

// Member is one member and what it says of itself.
type Member struct {
	ID   uint8
	Name string
	// Silent says why it could not be asked; then there is no evidence of it.
	Silent string
	api.MemberEvidence
	Quiet int // spells in which nothing for the VIPs went through it
}

// Add takes in what the member says after one more spell: the newest, with the frames of all spells.
func (m *Member) Add(e api.MemberEvidence) {
	var passed uint64
	for i := range e.Frames {
		f := &e.Frames[i]
		passed += f.In + f.Out
		for _, o := range m.Frames {
			if o.Interface == f.Interface {
				f.In, f.Out, f.Neighbour = f.In+o.In, f.Out+o.Out, f.Neighbour+o.Neighbour
				if f.Error == "" {
					f.Error = o.Error
				}
			}
		}
	}
	if passed == 0 {
		m.Quiet++
	}
	if m.Term != 0 {
		e.Term = m.Term
	}
	m.MemberEvidence = e
}

// Case is what is judged.
type Case struct {
	Cluster string
	Self    string // who asks
	Watched time.Duration
	Spells  int      // in how many pieces
	Members []Member // all of them, that one too, ascending by ID
}

// Judge walks through the steps.
func Judge(c Case) api.Verification {
	j := &judge{Case: c}
	for i := range c.Members {
		if m := &c.Members[i]; m.Silent == "" && serves(m.Status) {
			j.masters = append(j.masters, m)
		}
	}
	out := api.Verification{Cluster: c.Cluster, Member: c.Self, Watched: member.Duration(c.Watched), Result: api.VerifyOK}
	if m := j.master(); m != nil {
		out.Master, out.Term = m.Name, m.Status.Term
	}
	for _, step := range []struct {
		name string
		do   func(*step)
	}{
		{"one master", j.oneMaster}, {"virtual addresses", j.addresses}, {"virtual route table", j.routes},
		{"NAT entries", j.nat}, {"traffic", j.traffic}, {"volume", j.volume},
	} {
		s := newStep(step.name)
		step.do(s)
		out.Steps = append(out.Steps, s.VerifyStep)
		out.Result = worse(out.Result, s.Result)
	}
	return out
}

// worse gives the worse of two results; what is skipped is not bad.
func worse(a, b api.VerifyResult) api.VerifyResult {
	rank := []api.VerifyResult{api.VerifySkipped, api.VerifyOK, api.VerifyUnknown, api.VerifyFailed}
	if slices.Index(rank, b) > slices.Index(rank, a) {
		return b
	}
	return a
}

// step is one as it grows.
type step struct{ api.VerifyStep }

func newStep(name string) *step {
	return &step{api.VerifyStep{Name: name, Result: api.VerifyOK, Evidence: []string{}}}
}

func (s *step) say(format string, args ...any) {
	s.Evidence = append(s.Evidence, fmt.Sprintf(format, args...))
}

// fail and doubt say what to do, too; the same advice once.
func (s *step) fail(next, format string, args ...any) {
	s.note(api.VerifyFailed, next, format, args...)
}
func (s *step) doubt(next, format string, args ...any) {
	s.note(api.VerifyUnknown, next, format, args...)
}

func (s *step) note(r api.VerifyResult, next, format string, args ...any) {
	s.say(format, args...)
	s.Result = worse(s.Result, r)
	if next != "" && !slices.Contains(s.Next, next) {
		s.Next = append(s.Next, next)
	}
}

// skip says that the step does not apply.
func (s *step) skip(format string, args ...any) {
	s.say(format, args...)
	s.Result = api.VerifySkipped
}

type judge struct {
	Case
	masters []*Member
}

// serves reports whether a member shows as master: by its state, or by its gate.
func serves(s member.Status) bool { return strings.HasPrefix(s.State, "ACTIVE") || s.Gate.Open }

// master is the only one; nil when there is none, or more.
func (j *judge) master() *Member {
	if len(j.masters) != 1 {
		return nil
	}
	return j.masters[0]
}

// each calls do with every member that could be asked, and doubts the step for those that could not.
func (j *judge) each(s *step, part string, do func(m *Member, master bool)) {
	for i := range j.Members {
		m := &j.Members[i]
		if m.Silent != "" {
			s.doubt(askAgain(m.Name), "%s cannot be asked", m.Name)
			continue
		}
		if why := m.Errors[part]; why != "" {
			s.doubt("log on "+m.Name, "%s does not know: %s", m.Name, why)
			continue
		}
		do(m, m == j.master())
	}
}

func askAgain(name string) string {
	return fmt.Sprintf("bring %s back, or look at its own console; then: cluster verify", name)
}

// oneMaster is step 2 of the document: a single member shows as master, and all know it.
func (j *judge) oneMaster(s *step) {
	for i := range j.Members {
		m := &j.Members[i]
		if m.Silent != "" {
			s.doubt(askAgain(m.Name), "%s cannot be asked (%s); %s", m.Name, m.Silent, j.heard(m))
			continue
		}
		if why := m.Errors["status"]; why != "" {
			s.doubt("service restart had, on "+m.Name, "%s does not know its role: %s", m.Name, why)
			continue
		}
		gate := "shut"
		if m.Status.Gate.Open {
			gate = "open"
		}
		s.say("%s: %s, term %d, gate %s", m.Name, m.Status.State, m.Status.Term, gate)
		if m.Term != m.Status.Term {
			s.doubt("cluster verify, once the role stays where it is", "the role changed while it was watched: term %d became %d at %s", m.Term, m.Status.Term, m.Name)
		}
	}
	switch m := j.master(); {
	case len(j.masters) > 1:
		var names []string
		for _, m := range j.masters {
			names = append(names, m.Name)
		}
		s.fail("take all but one down: cluster down; then see why they do not hear each other: cluster interfaces", "more than one member is master: %s", strings.Join(names, ", "))
	case m == nil && s.Result == api.VerifyOK:
		s.fail("cluster explain; then, on the member that is to have it: ha -activate", "no member is master")
	case m == nil:
		s.say("no member that could be asked is master")
	default:
		j.agreement(s, m)
	}
}

// agreement checks that all know the master, and that it serves.
func (j *judge) agreement(s *step, m *Member) {
	switch {
	case !m.Status.Gate.Open:
		s.fail("cluster explain", "%s is %s, and its gate is shut", m.Name, m.Status.State)
	case !strings.HasPrefix(m.Status.State, "ACTIVE"):
		s.fail("cluster explain", "the gate of %s is open although it is %s", m.Name, m.Status.State)
	}
	for i := range j.Members {
		o := &j.Members[i]
		if o == m || o.Silent != "" || o.Errors["status"] != "" || o.Status.Holder == m.ID {
			continue
		}
		s.fail("cluster interfaces, on both: do they hear each other?", "%s does not know that %s is master", o.Name, m.Name)
	}
	if q := m.Status.Quorum; q != nil {
		text := fmt.Sprintf("%d of %d votes for %s, %d are a majority", q.Support, q.Voters, m.Name, q.Majority)
		if q.Missing != "" {
			text += "; missing: " + q.Missing
		}
		if q.Forced {
			text += "; an operator gave it the role without one"
		}
		s.say("%s", text)
	}
	if f := m.Status.Failover; f.Last != "" {
		s.say("the last change, %v ago: %s: %s", time.Duration(f.Since).Round(time.Second), f.Last, f.Reason)
	}
}

// heard is what heartbeats say of a member that could not be asked.
func (j *judge) heard(of *Member) string {
	for i := range j.Members {
		m := &j.Members[i]
		if m.Silent != "" {
			continue
		}
		for _, p := range m.Status.Peers {
			switch {
			case p.Member != of.ID:
			case p.LastHeard < 0:
				return m.Name + " has not heard a heartbeat of it"
			case !p.Alive:
				return fmt.Sprintf("%s heard its last heartbeat %v ago", m.Name, time.Duration(p.LastHeard).Round(100*time.Millisecond))
			default:
				return fmt.Sprintf("its heartbeats say %s", p.State)
			}
		}
	}
	return "nothing is known of it"
}

// addresses is step 3 of the document: the cluster's virtual addresses.
func (j *judge) addresses(s *step) {
	m := j.master()
	if m == nil {
		s.doubt("the step before", "nobody is known to serve them")
		return
	}
	if len(m.Status.VIPs) == 0 {
		s.skip("the cluster has no virtual address")
		return
	}
	for _, v := range m.Status.VIPs {
		s.say("%s on %s, %s, served by %s", v.Address, v.Interface, v.MAC, m.Name)
	}
	for _, f := range m.Status.Interfaces {
		if !slices.ContainsFunc(m.Status.VIPs, func(v member.VIPStatus) bool { return v.Interface == f.Name }) {
			continue
		}
		switch {
		case !f.Present:
			s.fail("hardware on "+m.Name, "%s: there is no NIC for %s", m.Name, f.Name)
		case !f.Carrier:
			s.fail("look at the cable and the switch port", "%s: %s has no carrier", m.Name, f.Name)
		case f.Problem != "":
			s.fail("cluster interfaces on "+m.Name, "%s: %s: %s", m.Name, f.Name, f.Problem)
		}
	}
	j.each(s, "status", func(o *Member, master bool) {
		if master {
			return
		}
		for _, v := range m.Status.VIPs {
			i := slices.IndexFunc(o.Status.VIPs, func(w member.VIPStatus) bool { return w.Address == v.Address && w.Interface == v.Interface })
			switch {
			case i < 0:
				s.fail("do they run one policy? policy status on both", "%s has not got %s on %s: it could not take over", o.Name, v.Address, v.Interface)
			case o.Status.VIPs[i].MAC != v.MAC:
				s.fail("hardware on both: the cards must sit in the same PCI places; or set nn:", "%s would answer for %s with %s", o.Name, v.Address, o.Status.VIPs[i].MAC)
			}
		}
	})
}

// routes is step 1a of the document: routes are available where the master is, and the other members' management never is.
func (j *judge) routes(s *step) {
	m := j.master()
	if m == nil {
		s.doubt("the first step", "nobody is known to serve them")
	}
	j.each(s, "routes", func(o *Member, master bool) {
		t := o.Routes
		if t.Problem != "" {
			s.doubt("log on "+o.Name, "%s: %s", o.Name, t.Problem)
		}
		clusters, available, others := 0, 0, []string{}
		for _, r := range t.Routes {
			what := fmt.Sprintf("%s: %s %s", o.Name, r.Kind, r.Destination)
			switch {
			case r.Kind == api.RouteOther:
			case r.Fault && master:
				s.fail("node reload on "+o.Name+"; if it stays: ifstat, log", "%s is not available: %s", what, r.Why)
			case r.Fault:
				s.fail("node reload on "+o.Name+"; if it stays: ifstat, log", "%s would not be available: %s", what, r.Why)
			case r.Owner == t.Master && r.Available && !master && m != nil:
				s.fail("cluster explain on "+o.Name, "%s is available although %s is master", what, m.Name)
			case r.Owner == t.Master && !r.Available && master && t.Problem == "":
				s.fail("cluster explain on "+o.Name, "%s is not available: %s", what, r.Why)
			case r.Kind == api.RouteManagement && r.Owner != t.Member && r.Available:
				s.fail("two members have one address: node show on both", "%s of %s is available", what, r.Owner)
			}
			if r.Owner == t.Master {
				if clusters++; r.Available {
					available++
				}
			}
			if r.Kind == api.RouteManagement && r.Owner != t.Member && !r.Available {
				others = append(others, fmt.Sprintf("%s (%s)", r.Destination.Addr(), r.Owner))
			}
		}
		s.say("%s: %d of %d routes of %s are available", o.Name, available, clusters, t.Master)
		if len(others) > 0 {
			s.say("%s: management of others false, as it must be: %s", o.Name, strings.Join(others, ", "))
		}
		if t.Left > 0 {
			s.say("%s: %d further routes are not listed", o.Name, t.Left)
		}
	})
}

// nat checks that every member has the cluster's NAT entries loaded: the one that takes over has nothing to load.
func (j *judge) nat(s *step) {
	j.each(s, "nat", func(o *Member, _ bool) {
		if len(o.NAT.Missing) > 0 {
			s.fail("node reload on "+o.Name, "%s: the kernel has not got %s", o.Name, strings.Join(o.NAT.Missing, ", "))
			return
		}
		entries := "entries"
		if o.NAT.Entries == 1 {
			entries = "entry"
		}
		s.say("%s: %d %s of NAT, loaded", o.Name, o.NAT.Entries, entries)
	})
}

// volume is the last step of the document: the volume after the failover resembles the one before.
func (j *judge) volume(s *step) {
	m := j.master()
	if m == nil {
		s.doubt("the first step", "nobody is known to carry it")
		return
	}
	if why := m.Errors["traffic"]; why != "" {
		s.doubt("log on "+m.Name, "%s does not know: %s", m.Name, why)
		return
	}
	t := m.Traffic
	if t.Basis != "" {
		s.say("%s now, against %s", m.Name, t.Basis)
	}
	switch t.Result {
	case api.VerifyOK:
		s.say("%s", t.Text)
	case api.VerifyFailed:
		s.fail(t.Next, "%s", t.Text)
	case api.VerifySkipped:
		s.skip("%s", t.Text)
	default:
		s.doubt(t.Next, "%s", t.Text)
	}
}
