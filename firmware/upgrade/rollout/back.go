package rollout

import "fmt"

// back brings the members that have begun to what they ran before, one after the other.
func (m *Machine) back() {
	var holder *Member
	for i := range m.Plan.Members {
		b := &m.Plan.Members[i]
		if b.Step == Waiting {
			continue
		}
		if b.Step == Returning && m.seen[b.ID].Holder && m.runs(m.seen[b.ID].Release) {
			holder = b // after the others, which may take the role then
			continue
		}
		if b.Step == Returning && m.undo(b) {
			return
		}
	}
	if holder != nil {
		m.moveRoleBack(holder)
		return
	}
	m.Plan.Now = ""
	m.Plan.Phase = BackedOut
	for _, b := range m.Plan.Members {
		if b.Step == Left {
			m.Plan.Phase = Mixed
		}
	}
}

// undo brings one member on, and tells whether the others have to wait for it.
func (m *Machine) undo(b *Member) (busy bool) {
	s, there := m.seen[b.ID]
	leave := func(format string, args ...any) bool {
		b.Note = fmt.Sprintf(format, args...)
		m.enter(b, Left)
		return false
	}
	if !there {
		m.say("backing out: %s does not answer", b.Name)
		if m.late(b, RestartPatience) {
			return leave("it does not answer; what it runs when it comes back is not known")
		}
		return true
	}
	if !m.runs(s.Release) {
		return m.undone(b, s)
	}
	ok, why := m.mayLeave(b)
	switch {
	case !ok:
		m.say("backing out: %s waits: %s", b.Name, why)
	case s.Trial:
		// The loader has counted: the next start takes the old image.
		m.say("backing out: %s, whose image is on trial, restarts", b.Name)
		m.ask(b, Action{Verb: Restart, Boot: s.Boot})
	default:
		m.say("backing out: %s goes back to its old image", b.Name)
		m.ask(b, Action{Verb: Return, Boot: s.Boot})
	}
	if m.late(b, TrialPatience) {
		return leave("it keeps the new image: %s", either(m.refused[b.ID], either(why, "it did not go back")))
	}
	return true
}

// undone finishes a member that runs its old image.
func (m *Machine) undone(b *Member, s Seen) (busy bool) {
	if s.Job.Plan == m.Plan.ID && s.Job.Error == "" {
		m.say("backing out: %s drops the image", b.Name)
		m.ask(b, Action{Verb: Cancel})
		if !m.late(b, Patience) {
			return true
		}
		b.Note = "the new image may still be tried at its next start: " + either(m.refused[b.ID], "it did not drop it")
		m.enter(b, Left)
		return false
	}
	if s.Trial || !s.Healthy {
		m.say("backing out: %s runs its old image: %s", b.Name, either(s.Why, "on trial"))
		if !m.late(b, TrialPatience) {
			return true
		}
		b.Note = "it runs its old image, and is not healthy: " + s.Why
		m.enter(b, Returned)
		return false
	}
	b.Note = ""
	m.enter(b, Returned)
	return false
}

// moveRoleBack has the holder of the role hand it to a member that is back, or was never touched.
func (m *Machine) moveRoleBack(h *Member) {
	for _, s := range []Step{Returned, Waiting} {
		for i := range m.Plan.Members {
			if b := &m.Plan.Members[i]; b.Step == s {
				if ok, _ := m.works(b); ok {
					m.moveRole(h, s, Patience)
					return
				}
			}
		}
	}
	m.moveRole(h, Returned, TrialPatience)
}
