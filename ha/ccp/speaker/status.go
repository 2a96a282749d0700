package speaker

import (
	"fmt"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/ha/ccp"
	"github.com/twinkeep/twinkeep/ha/cluster"
	"github.com/twinkeep/twinkeep/ha/probe"
)

// Status is what a speaker knows, for displays.
type Status struct {
	Sent, Received uint64 // packets; received and accepted
	Refused        map[string]uint64
	Opinions       []Opinion
	Verdicts       []probe.Verdict // by interface index
	// Age is how long ago each verdict changed, by interface index.
	Ages []time.Duration
}

// Opinion is what a peer said last of a member, by MY_STATE.
type Opinion struct {
	By, Of uint8
	State  ccp.State
	Age    time.Duration
}

// Status takes a snapshot. Opinions that are not fresh are left out.
func (s *Speaker) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	out := Status{Sent: s.sent, Received: s.received, Refused: map[string]uint64{}, Verdicts: s.probe.Verdicts()}
	for r, c := range s.refusals {
		out.Refused[string(r)] = c.count
	}
	for _, v := range out.Verdicts {
		out.Ages = append(out.Ages, now-time.Duration(v.Since))
	}
	for _, by := range s.cfg.Members {
		p := s.peers[by.ID]
		if p == nil || now-p.at >= fresh {
			continue
		}
		for _, of := range s.cfg.Members {
			if int(of.ID) <= len(p.states) {
				out.Opinions = append(out.Opinions, Opinion{By: by.ID, Of: of.ID, State: p.states[of.ID-1], Age: now - p.at})
			}
		}
	}
	return out
}

// ActiveCheck says whether a side of this member has failed although there is carrier, and on which interfaces: a
// reason to count this member as less fit. Interfaces without carrier are left out because the member counts
// them itself; so are sync interfaces, because a problem of those alone must not cost the role.
func (s *Speaker) ActiveCheck() (problem bool, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var texts []string
	for i, v := range s.probe.Verdicts() {
		if v.Kind == probe.Ours && !s.ifaces[i].Sync && i < len(s.view.Links) && s.view.Links[i].Up {
			texts = append(texts, s.ifaces[i].Name+": "+v.Text)
		}
	}
	return len(texts) > 0, strings.Join(texts, "; ")
}

// settled is how long a verdict must stand to be logged, repeatAfter how long one of the same kind waits for it.
const (
	settled     = time.Second
	repeatAfter = 30 * time.Second
)

// tell logs verdicts that have settled and differ from what was logged last.
func (s *Speaker) tell() {
	now := s.now()
	for i, v := range s.probe.Verdicts() {
		f := s.ifaces[i]
		if v.Kind == probe.Probing || v.Kind == probe.Alone || now-time.Duration(v.Since) < settled || v.Text == f.logged.Text ||
			v.Kind == f.logged.Kind && now-f.loggedAt < repeatAfter {
			continue
		}
		f.logged, f.loggedAt = v, now
		severity, text := cluster.Warning, v.Text
		if v.Kind == probe.OK {
			severity, text = cluster.Notice, "all living members are heard"
		}
		s.cfg.Event(cluster.Log{Severity: severity, Name: EvProbe, Text: fmt.Sprintf("%s: %s", f.Name, text)})
	}
}
