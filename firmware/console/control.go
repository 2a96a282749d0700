package console

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twinkeep/twinkeep/ha/member"
)

// writeOpinions shows what each member thinks of all, once a peer has said so.
func writeOpinions(w io.Writer, s member.Status) {
	type giver struct {
		id   uint8
		name string
	}
	said := map[giver]map[uint8]string{}
	add := func(of uint8, list []member.Opinion) {
		for _, o := range list {
			g := giver{o.Member, o.Name}
			if said[g] == nil {
				said[g] = map[uint8]string{}
			}
			said[g][of] = o.State
		}
	}
	self := giver{s.Member, s.MemberName}
	members := []giver{self}
	add(s.Member, s.Opinions)
	for _, p := range s.Peers {
		members = append(members, giver{p.Member, p.Name})
		add(p.Member, p.Opinions)
	}
	if len(said) == 0 {
		return
	}
	said[self] = map[uint8]string{s.Member: s.State}
	for _, p := range s.Peers {
		said[self][p.Member] = either(p.State, "LOST")
	}
	slices.SortFunc(members, func(a, b giver) int { return int(a.id) - int(b.id) })
	header := []string{"OPINION OF"}
	for _, of := range members {
		header = append(header, "ON "+of.name)
	}
	fmt.Fprintln(w)
	table(w, strings.Join(header, "|"), func(row func(...any)) {
		for _, by := range members {
			if said[by] == nil {
				continue // silent, or its last word is too old
			}
			cells := []any{by.name}
			for _, of := range members {
				cells = append(cells, said[by][of.id])
			}
			row(cells...)
		}
	})
}

// verdict is the word for what interface probing says of an interface.
func verdict(i member.InterfaceStatus) string {
	switch {
	case !i.Heartbeat:
		return ""
	case i.Verdict == nil:
		return "ok"
	}
	return i.Verdict.Kind
}

// writeVerdicts explains the verdicts.
func writeVerdicts(w io.Writer, s member.Status) {
	title := "\nInterface probing:\n"
	for _, i := range s.Interfaces {
		if v := i.Verdict; v != nil {
			fmt.Fprintf(w, "%s  %s: %s (for %s)\n", title, i.Name, v.Text, short(time.Duration(v.Since)))
			title = ""
		}
	}
}

// writeControl shows the refused packets of CCP.
func writeControl(w io.Writer, s member.Status) {
	if len(s.Control.Rejected) == 0 {
		return
	}
	fmt.Fprintf(w, "\nCCP: %d sent, %d received, rejected:\n", s.Control.Sent, s.Control.Received)
	for _, reason := range slices.Sorted(maps.Keys(s.Control.Rejected)) {
		fmt.Fprintf(w, "  %8d  %s\n", s.Control.Rejected[reason], reason)
	}
}
