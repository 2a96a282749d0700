// Package monitor watches hosts beyond the gateway's own links, and makes a critical device of them: a member that has
// lost its way to them is unfit, and a peer that still has it takes over (Clavister's link monitor, Fortinet's ping
// server).
package monitor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Rule says when a group of hosts is a problem.
type Rule struct {
	// Loss is how many probes in a row a host must leave unanswered to be down.
	Loss int
	// Grace is how long after the start nothing is a problem.
	Grace time.Duration
}

// Group decides over a group of hosts. It is pure: what was observed and the time come in.
//
// It is a problem when more than half of the hosts are down. A host counts only after it has answered once: one that is
// switched off for months, or mistyped, must not cost every member the role (reference/vendors.md §1.9).
type Group struct {
	rule  Rule
	start time.Duration
	hosts []host
}

type host struct {
	addr     netip.Addr
	answered bool
	lost     int
}

// NewGroup starts to watch hosts at now.
func NewGroup(hosts []netip.Addr, rule Rule, now time.Duration) *Group {
	g := &Group{rule: rule, start: now}
	for _, a := range hosts {
		g.hosts = append(g.hosts, host{addr: a})
	}
	return g
}

// Observe takes in the result of one probe of the host with the index i.
func (g *Group) Observe(i int, answered bool) {
	h := &g.hosts[i]
	if answered {
		h.answered, h.lost = true, 0
		return
	}
	h.lost++
}

// Verdict says whether the group is a problem at now, and what there is to say about it.
func (g *Group) Verdict(now time.Duration) (problem bool, text string) {
	var down []string
	counted := 0
	for _, h := range g.hosts {
		if h.answered {
			counted++
			if h.lost >= g.rule.Loss {
				down = append(down, h.addr.String())
			}
		}
	}
	slices.Sort(down)
	switch {
	case counted == 0:
		return false, "no host has answered yet"
	case len(down) == 0:
		return false, fmt.Sprintf("%d of %d hosts answer", counted, len(g.hosts))
	}
	text = fmt.Sprintf("%d of %d hosts do not answer: %s", len(down), counted, strings.Join(down, ", "))
	if len(down)*2 <= counted {
		return false, text
	}
	if now-g.start < g.rule.Grace {
		return false, text + " (within the time of grace)"
	}
	return true, text
}
