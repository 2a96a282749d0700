package console

import (
	"fmt"
	"io"
	"time"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/member"
)

// judges reports whether the status is a witness's.
func judges(s member.Status) bool { return s.Member > node.MaxMembers }

// nameOf is the name of a member or witness, "nobody" for 0.
func nameOf(s member.Status, id uint8) string {
	switch {
	case id == 0:
		return "nobody"
	case id == s.Member:
		return s.MemberName
	}
	for _, p := range s.Peers {
		if p.Member == id {
			return p.Name
		}
	}
	for _, v := range s.Witnesses {
		if v.Member == id {
			return v.Name
		}
	}
	return fmt.Sprintf("member %d", id)
}

// majority says in one line whether this member has the votes that the role needs.
func majority(s member.Status) string {
	q := s.Quorum
	text := fmt.Sprintf("%d of %d votes are needed", q.Majority, q.Voters)
	switch {
	case judges(s) || q.Vote != s.Member:
		text += fmt.Sprintf("; this device supports %s", nameOf(s, q.Vote))
	default:
		text += fmt.Sprintf(", %d here", q.Support)
		if q.Support < q.Voters && q.Missing != "" {
			text += " (" + q.Missing + ")"
		}
	}
	if q.Forced {
		text += "; an operator gave the role without them"
	}
	return text
}

// writeVotes shows what the role needs beside a fit member: majority, lock, equal node files.
func writeVotes(w io.Writer, s member.Status) {
	if s.Quorum != nil {
		why := "witness"
		if len(s.Witnesses) == 0 && !judges(s) {
			why = "safety mode"
		}
		fmt.Fprintf(w, "Majority:    %s; by %s\n", majority(s), why)
	}
	switch {
	case s.Locked != "":
		fmt.Fprintf(w, "Lock:        the role stays here until cluster clear-lock: %s\n", s.Locked)
	case s.Lock:
		fmt.Fprintln(w, "Lock:        not locked; an unplanned takeover locks the role")
	}
	for _, p := range s.Peers {
		if p.Differs != "" {
			what := "node file"
			if s.Policy.Revision != 0 || p.Policy.Revision != 0 {
				what = "policy"
			}
			fmt.Fprintf(w, "Differs:     %s of %s: %s\n", what, p.Name, p.Differs)
		}
	}
	for _, p := range s.Witnesses {
		if p.Differs != "" {
			fmt.Fprintf(w, "Differs:     node file of %s: %s\n", p.Name, p.Differs)
		}
	}
}

// writeWitnesses lists those who only judge.
func writeWitnesses(w io.Writer, s member.Status) {
	if len(s.Witnesses) == 0 && !judges(s) {
		return
	}
	fmt.Fprintln(w)
	table(w, "WITNESS|NAME|STATE|SUPPORTS|LAST HEARD", func(row func(...any)) {
		if judges(s) {
			vote := uint8(0)
			if s.Quorum != nil {
				vote = s.Quorum.Vote
			}
			row(fmt.Sprintf("%d (local)", s.Member), s.MemberName, s.State, nameOf(s, vote), "-")
		}
		for _, v := range s.Witnesses {
			heard := short(time.Duration(v.LastHeard))
			if v.LastOn != "" && v.LastHeard >= 0 {
				heard += " on " + v.LastOn
			}
			supports := "-"
			if v.Alive {
				supports = nameOf(s, v.Vote)
			}
			row(v.Member, v.Name, v.State, supports, heard)
		}
	})
	for _, p := range s.Paths {
		text := fmt.Sprintf("%s: %d sent, %d received", either(p.Remote, "nobody yet"), p.Sent, p.Received)
		if p.Problem != "" {
			text += "; " + p.Problem
		}
		fmt.Fprintf(w, "%s: %s\n", p.Name, text)
	}
}

// writeChange explains one change of the role.
func writeChange(w io.Writer, c member.Change) {
	fmt.Fprintf(w, "%s, %s ago, term %d\n", c.What, long(time.Duration(c.Ago)), c.Term)
	fmt.Fprintf(w, "Why:      %s\n", c.Reason)
	fmt.Fprintf(w, "Here:     %s afterwards", c.State)
	if len(c.Problems) == 0 {
		fmt.Fprintln(w, ", no problems")
	} else {
		fmt.Fprintln(w)
	}
	for _, p := range c.Problems {
		fmt.Fprintf(w, "Problem:  %s\n", p)
	}
	if q := c.Quorum; q != nil {
		fmt.Fprintf(w, "Votes:    %d of %d are needed, %d for this device", q.Majority, q.Voters, q.Support)
		if q.Forced {
			fmt.Fprint(w, "; forced by an operator")
		}
		fmt.Fprintln(w)
	}
	t := c.Timing
	fmt.Fprintf(w, "Timing:   beat %v, lease %v, dead %v\n\n", time.Duration(t.Beat), time.Duration(t.Lease), time.Duration(t.Dead))
	header := "PEER|STATE|DEMOTION|LAST HEARTBEAT|ON"
	if c.Quorum != nil {
		header += "|SUPPORTED"
	}
	table(w, header+"|EVIDENCE", func(row func(...any)) {
		for _, p := range c.Peers {
			last := "never"
			if p.Last >= 0 {
				last = fmt.Sprintf("%v before", time.Duration(p.Last).Round(100*time.Microsecond))
			}
			cells := []any{fmt.Sprintf("%s (%d)", p.Name, p.Member), p.State, p.Demotion, last, either(p.On, "-")}
			if c.Quorum != nil {
				cells = append(cells, either(p.Vote, "-"))
			}
			row(append(cells, p.Gone)...)
		}
	})
}
