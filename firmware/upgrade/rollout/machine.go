package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
)

// Machine carries out a plan. Its methods are for one goroutine.
type Machine struct {
	Plan Plan

	now  time.Duration
	seen map[uint8]Seen
	// since is when something began, by what it is; see after.
	since map[string]time.Duration
	// refused is why the last action on a member came to nothing, moved how far its transfer was.
	refused map[uint8]string
	moved   map[uint8]Job
	out     []Action
}

// New goes on with a plan, a new one too.
func New(p Plan) *Machine {
	return &Machine{Plan: p, since: make(map[string]time.Duration), refused: make(map[uint8]string), moved: make(map[uint8]Job)}
}

// Step takes what the members that answer say now, and tells what to ask of them. The plan may have changed: it must be durable
// before the actions are carried out. now is the time since anything, of a clock that only goes forward.
func (m *Machine) Step(now time.Duration, seen map[uint8]Seen) []Action {
	m.now, m.seen, m.out = now, seen, nil
	for i := range m.Plan.Members {
		id := m.Plan.Members[i].ID
		s, there := seen[id]
		m.holds(fmt.Sprint("fit ", id), there && s.Healthy)
	}
	switch m.Plan.Phase {
	case Forward:
		m.forward()
	case Back:
		m.back()
	}
	return m.out
}

// Refused tells why an action came to nothing.
func (m *Machine) Refused(a Action, why string) { m.refused[a.Member] = why }

// Abort begins to back out.
func (m *Machine) Abort(why string) {
	if m.Plan.Phase == Forward {
		m.fail("%s", why)
	}
}

// holds notes since when a condition has held, and tells for how long.
func (m *Machine) holds(key string, cond bool) time.Duration {
	if !cond {
		delete(m.since, key)
		return -1
	}
	if _, ok := m.since[key]; !ok {
		m.since[key] = m.now
	}
	return m.now - m.since[key]
}

// enter changes a member's step; its clocks start anew.
func (m *Machine) enter(b *Member, s Step) {
	b.Step = s
	for _, k := range []string{"limit", "act"} {
		delete(m.since, fmt.Sprint(k, " ", b.ID))
	}
	delete(m.refused, b.ID)
}

// late tells whether a member has been in its step for longer than limit.
func (m *Machine) late(b *Member, limit time.Duration) bool {
	return m.holds(fmt.Sprint("limit ", b.ID), true) > limit
}

// progress starts the clock of late anew.
func (m *Machine) progress(b *Member) { delete(m.since, fmt.Sprint("limit ", b.ID)) }

// ask asks, and repeats after a while.
func (m *Machine) ask(b *Member, a Action) {
	key := fmt.Sprint("act ", b.ID)
	if at, ok := m.since[key]; ok && m.now-at < Again {
		return
	}
	m.since[key] = m.now
	a.Member = b.ID
	m.out = append(m.out, a)
}

func (m *Machine) fail(format string, args ...any) {
	m.Plan.Phase, m.Plan.Reason = Back, fmt.Sprintf(format, args...)
	clear(m.since)
	for i := range m.Plan.Members {
		b := &m.Plan.Members[i]
		if b.Step != Waiting {
			m.enter(b, Returning)
		}
	}
}

func (m *Machine) say(format string, args ...any) { m.Plan.Now = fmt.Sprintf(format, args...) }

// fit tells whether a member has been healthy for long enough.
func (m *Machine) fit(b *Member) bool {
	at, ok := m.since[fmt.Sprint("fit ", b.ID)]
	return ok && m.now-at >= Settle
}

// mayLeave tells whether the cluster does without a member: another one holds the role and is healthy. Else it tells why not.
func (m *Machine) mayLeave(b *Member) (bool, string) {
	if m.seen[b.ID].Holder {
		return false, b.Name + " holds the role"
	}
	h := m.holder()
	switch {
	case h == nil:
		return false, "no member holds the role"
	case !m.seen[h.ID].Healthy:
		return false, fmt.Sprintf("%s, which holds the role, is not healthy: %s", h.Name, m.seen[h.ID].Why)
	}
	return true, ""
}

func (m *Machine) holder() *Member {
	for i := range m.Plan.Members {
		b := &m.Plan.Members[i]
		if m.seen[b.ID].Holder {
			return b
		}
	}
	return nil
}

// works tells whether a member is healthy, and in sync with the one that holds the role as that one sees it. Else it tells why not.
func (m *Machine) works(b *Member) (bool, string) {
	s, there := m.seen[b.ID]
	h := m.holder()
	switch {
	case !there:
		return false, b.Name + " does not answer"
	case !s.Healthy:
		return false, b.Name + ": " + s.Why
	case h == nil:
		return false, "no member holds the role"
	case h.ID != b.ID && !slices.Contains(m.seen[h.ID].InSync, b.ID):
		return false, fmt.Sprintf("%s does not have all connections, says %s", b.Name, h.Name)
	case !m.fit(b):
		return false, b.Name + " is healthy, not for long enough"
	}
	return true, ""
}

// runs tells whether a release is the plan's.
func (m *Machine) runs(r upgrade.Release) bool { return r == m.Plan.Image.Release }

func (m *Machine) forward() {
	for i := range m.Plan.Members {
		if b := &m.Plan.Members[i]; b.Step != Waiting && b.Step != Done {
			m.upgrade(b)
			return
		}
	}
	m.next()
}

// next chooses the next member, when all are well.
func (m *Machine) next() {
	if !slices.ContainsFunc(m.Plan.Members, func(b Member) bool { return b.Step == Waiting }) {
		m.Plan.Phase, m.Plan.Now = Upgraded, ""
		return
	}
	for i := range m.Plan.Members {
		if ok, why := m.works(&m.Plan.Members[i]); !ok {
			m.say("waiting until all members are healthy and in sync: %s", why)
			if m.holds("unwell", true) > Patience {
				m.fail("%s", why)
			}
			return
		}
	}
	m.holds("unwell", false)
	b := m.choose()
	s := m.seen[b.ID]
	switch {
	case m.runs(s.Release) && !s.Trial:
		b.Note = "ran it already"
		m.enter(b, Done)
	case s.Holder:
		m.moveRole(b, Done, Patience)
	default:
		m.holds("handover", false)
		m.enter(b, Installing)
		m.upgrade(b)
	}
}

// choose takes a standby, the driver after the others, and the holder of the role last.
func (m *Machine) choose() *Member {
	rank := func(b *Member) int {
		switch {
		case m.seen[b.ID].Holder:
			return 2
		case b.ID == m.Plan.Driver:
			return 1
		}
		return 0
	}
	var best *Member
	for i := range m.Plan.Members {
		if b := &m.Plan.Members[i]; b.Step == Waiting && (best == nil || rank(b) < rank(best)) {
			best = b
		}
	}
	return best
}

// moveRole asks the holder to give the role to a member with the given step that works.
func (m *Machine) moveRole(from *Member, to Step, limit time.Duration) {
	why := "no other member can take the role"
	for i := range m.Plan.Members {
		b := &m.Plan.Members[i]
		if b.ID == from.ID || b.Step != to {
			continue
		}
		ok, w := m.works(b)
		if !ok {
			why = w
			continue
		}
		m.say("the role moves from %s to %s", from.Name, b.Name)
		m.ask(from, Action{Verb: HandOver, To: b.ID})
		why = m.refused[from.ID]
		break
	}
	if m.holds("handover", true) > limit {
		m.holds("handover", false)
		if why == "" {
			why = "it was asked to and did not"
		}
		if m.Plan.Phase == Forward {
			m.fail("%s did not hand the role over: %s", from.Name, why)
			return
		}
		from.Note = "it keeps the new image, for it could not hand the role over: " + why
		m.enter(from, Left)
	}
}

// upgrade brings one member on.
func (m *Machine) upgrade(b *Member) {
	s, there := m.seen[b.ID]
	switch b.Step {
	case Installing:
		m.install(b, s, there)
	case Restarting:
		m.restart(b, s, there)
	case Verifying:
		m.verify(b, s, there)
	}
}

func (m *Machine) install(b *Member, s Seen, there bool) {
	if !there {
		m.say("%s does not answer", b.Name)
		if m.late(b, RestartPatience) {
			m.fail("%s does not answer", b.Name)
		}
		return
	}
	if m.runs(s.Release) { // it was restarted by something else, after it was installed
		m.enter(b, Verifying)
		return
	}
	job := s.Job
	if job.Plan != m.Plan.ID {
		job = Job{Plan: m.Plan.ID}
		m.ask(b, Action{Verb: Install})
	}
	switch {
	case job.Error != "":
		m.fail("%s: %s", b.Name, job.Error)
		return
	case job.Installed:
		if ok, why := m.mayLeave(b); !ok {
			m.say("%s has the image and waits: %s", b.Name, why)
			break
		}
		b.Boot, b.Note = s.Boot, ""
		m.enter(b, Restarting)
		m.restart(b, s, there)
		return
	case job.All > 0:
		m.say("%s fetches and writes the image: %d %%", b.Name, job.Done*100/job.All)
	default:
		m.say("%s is asked to fetch the image", b.Name)
	}
	if job != m.moved[b.ID] {
		m.moved[b.ID] = job
		m.progress(b)
	}
	if m.late(b, Patience) {
		why := either(m.refused[b.ID], "it does not get on: "+m.Plan.Now)
		m.fail("%s: %s", b.Name, why)
	}
}

func (m *Machine) restart(b *Member, s Seen, there bool) {
	m.say("%s restarts", b.Name)
	switch {
	case there && s.Boot != b.Boot && m.runs(s.Release):
		m.enter(b, Verifying)
		m.verify(b, s, there)
		return
	case there && s.Boot != b.Boot:
		m.fail("%s came back with %v: the new image does not work there", b.Name, s.Release)
		return
	case there:
		if ok, why := m.mayLeave(b); !ok {
			m.say("%s waits with its restart: %s", b.Name, why)
		} else {
			m.ask(b, Action{Verb: Restart, Boot: b.Boot})
		}
	}
	if m.late(b, RestartPatience) {
		if there {
			m.fail("%s does not restart: %s", b.Name, either(m.refused[b.ID], m.Plan.Now))
		} else {
			m.fail("%s did not come back within %v", b.Name, RestartPatience)
		}
	}
}

func (m *Machine) verify(b *Member, s Seen, there bool) {
	ok, why := m.works(b)
	switch {
	case there && !m.runs(s.Release):
		m.fail("%s went back to %v: it was not healthy with the new image", b.Name, s.Release)
		return
	case there && s.Trial && s.Healthy:
		why = b.Name + " is healthy, and its image still on trial"
	case ok:
		b.Note = ""
		m.enter(b, Done)
		m.say("%s works with the new image", b.Name)
		return
	}
	m.say("%s runs the new image: %s", b.Name, why)
	b.Note = why
	if m.late(b, TrialPatience) {
		m.fail("%s did not come to work with the new image: %s", b.Name, why)
	}
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
