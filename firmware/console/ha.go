package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	policycmd "github.com/twinkeep/twinkeep/firmware/policy/cmd"
	"github.com/twinkeep/twinkeep/ha/member"
)

func (s *session) haCommand() *cobra.Command {
	var activate, deactivate, force bool
	cmd := &cobra.Command{
		Use: "ha", Short: "Show the HA state of this device, or change it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ctx := s.client(), cmd.Context()
			order := func(ctx context.Context) (string, error) { return c.Activate(ctx, force) }
			switch {
			case force && !activate:
				return &api.Error{Message: "--force goes with -activate", Hint: "ha -activate --force"}
			case deactivate:
				order = c.Deactivate
			case !activate:
				status, err := c.HA(ctx)
				if err != nil {
					return err
				}
				return show(cmd, s, status, writeHA)
			}
			message, err := order(ctx)
			if err != nil {
				return err
			}
			return s.say(cmd, message)
		},
	}
	cmd.Flags().BoolVar(&activate, "activate", false, "make this device the active one")
	cmd.Flags().BoolVar(&deactivate, "deactivate", false, "give the active role to the peer")
	cmd.Flags().BoolVar(&force, "force", false, "with -activate: without a majority; no other member may be serving")
	cmd.MarkFlagsMutuallyExclusive("activate", "deactivate")
	return cmd
}

// forwards reports whether a member in that state has the role.
func forwards(state string) bool { return strings.HasPrefix(state, "ACTIVE") }

// writeHA begins with the four lines of Clavister's ha command, word for word, for people and scripts that know it.
func writeHA(w io.Writer, s member.Status) {
	role := "SLAVE"
	if s.Designated {
		role = "MASTER"
	}
	if judges(s) {
		role = "WITNESS (only judges)"
	}
	fmt.Fprintf(w, "This device is a HA %s\n", role)
	if forwards(s.State) {
		fmt.Fprintln(w, "This device is currently ACTIVE (will forward traffic)")
		fmt.Fprintf(w, "This device has been active: %s\n", long(time.Duration(s.StateSince)))
	} else {
		fmt.Fprintln(w, "This device is currently INACTIVE (won't forward traffic)")
		fmt.Fprintf(w, "This device has been inactive: %s\n", long(time.Duration(s.StateSince)))
	}
	peer := "DEAD"
	if slices.ContainsFunc(s.Peers, func(p member.PeerStatus) bool { return p.Alive }) {
		peer = "ALIVE"
	}
	fmt.Fprintf(w, "HA cluster peer is %s\n", peer)

	fmt.Fprintf(w, "\nState:    %s\n", s.State)
	if s.Reason != "" {
		fmt.Fprintf(w, "Reason:   %s\n", s.Reason)
	}
	gate := "shut"
	switch {
	case s.Gate.Error != "":
		gate = "unknown: " + s.Gate.Error
	case s.Gate.Open:
		gate = "open"
	case s.Gate.Draining:
		gate = "draining"
	}
	fmt.Fprintf(w, "Gate:     %s\n", gate)
	if q := s.Quorum; q != nil {
		fmt.Fprintf(w, "Majority: %s\n", majority(s))
	}
	if s.Locked != "" {
		fmt.Fprintf(w, "Locked:   %s (cluster clear-lock)\n", s.Locked)
	}
	for _, v := range s.VIPs {
		fmt.Fprintf(w, "VIP:      %s on %s, shared MAC %s\n", v.Address, v.Interface, v.MAC)
	}
	if s.ConfigError != "" {
		fmt.Fprintf(w, "Config:   %s\n", s.ConfigError)
	}
	for _, p := range s.Problems {
		fmt.Fprintf(w, "Problem:  %s\n", p)
	}
}

func (s *session) clusterCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "cluster", Short: "Show and steer the cluster", Args: cobra.NoArgs}
	cmd.AddCommand(
		get(s, &cobra.Command{Use: "state", Short: "Show all members and their state"},
			func(c *api.Client, ctx context.Context) (member.Status, error) { return c.HA(ctx) }, writeCluster),
		get(s, &cobra.Command{Use: "interfaces", Short: "Show the interfaces that carry heartbeats and shared addresses"},
			func(c *api.Client, ctx context.Context) (member.Status, error) { return c.HA(ctx) }, writeClusterInterfaces),
		get(s, &cobra.Command{Use: "failovers", Short: "Show who became active when, and why"},
			func(c *api.Client, ctx context.Context) (member.Status, error) { return c.HA(ctx) }, writeFailovers),
		s.verifyCommand(), s.explainCommand(), s.lockCommand(), s.clearLockCommand(), s.priorityCommand(), s.removeCommand(), s.watchCommand(),
		s.eventsCommand(), s.failoverCommand(), s.downCommand(), s.upCommand(), s.deviceCommand(),
		policycmd.ResumeCommand(s.policyOptions()),
	)
	return cmd
}

func writeCluster(w io.Writer, s member.Status) {
	holder := "nobody"
	if s.Holder != 0 {
		holder = fmt.Sprintf("member %d", s.Holder)
	}
	fmt.Fprintf(w, "Cluster %s (%d), mode %s, term %d, held by %s\n\n", either(s.ClusterName, "-"), s.ClusterID, s.Mode, s.Term, holder)
	type line struct {
		id    uint8
		cells []any
	}
	own := s.State
	if len(s.Problems) > 0 {
		own += " (" + plural(len(s.Problems), "problem") + ")"
	}
	lines := []line{{s.Member, []any{fmt.Sprintf("%d (local)", s.Member), s.MemberName, own, s.Priority, yes(s.InSync), s.Connections, "-"}}}
	if judges(s) {
		lines = nil // its line is among the witnesses
	}
	for _, p := range s.Peers {
		state, heard := either(p.State, "LOST"), short(time.Duration(p.LastHeard))
		if p.Alive && p.Demotion > 0 {
			state += " (not fit)"
		}
		if p.LastOn != "" && p.LastHeard >= 0 {
			heard += " on " + p.LastOn
		}
		lines = append(lines, line{p.Member, []any{p.Member, p.Name, state, p.Priority, yes(p.InSync), p.Connections, heard}})
	}
	slices.SortFunc(lines, func(a, b line) int { return int(a.id) - int(b.id) })
	table(w, "ID|NAME|STATE|PRIORITY|IN SYNC|CONNECTIONS|LAST HEARD", func(row func(...any)) {
		for _, l := range lines {
			row(l.cells...)
		}
	})
	writeOpinions(w, s)
	writeWitnesses(w, s)
	writePolicies(w, s)
	fmt.Fprintf(w, "\nLast change: %s ago, %s\n", long(time.Duration(s.StateSince)), either(s.Reason, "no reason given"))
	fmt.Fprintf(w, "Failovers:   %d", s.Failover.Count)
	if s.Failover.Last != "" {
		fmt.Fprintf(w, ", the last %s ago: %s", long(time.Duration(s.Failover.Since)), s.Failover.Last)
	}
	fmt.Fprintln(w)
	writeVotes(w, s)
	for _, p := range s.Problems {
		fmt.Fprintf(w, "Problem:     %s\n", p)
	}
	if s.ConfigError != "" {
		fmt.Fprintf(w, "Config:      %s\n", s.ConfigError)
	}
}

// writePolicies shows what each member runs, in a cluster that runs by policies.
func writePolicies(w io.Writer, s member.Status) {
	type line struct {
		id   uint8
		name string
		member.PolicyStatus
	}
	lines := []line{{s.Member, s.MemberName, s.Policy}}
	some := s.Policy.Revision != 0
	for _, p := range s.Peers {
		lines = append(lines, line{p.Member, p.Name, p.Policy})
		some = some || p.Policy.Revision != 0
	}
	if !some {
		return
	}
	slices.SortFunc(lines, func(a, b line) int { return int(a.id) - int(b.id) })
	fmt.Fprintln(w)
	table(w, "POLICY OF|REVISION|DIGEST", func(row func(...any)) {
		for _, l := range lines {
			if l.Revision == 0 {
				row(l.name, "none", "")
			} else {
				row(l.name, l.Revision, l.Digest)
			}
		}
	})
}

func writeClusterInterfaces(w io.Writer, s member.Status) {
	table(w, "NAME|LINK|HEARTBEAT|ADDRESS|SHARED MAC|SENT|RECEIVED|LAST HEARD|VERDICT|PROBLEM", func(row func(...any)) {
		for _, i := range s.Interfaces {
			name, beats := i.Name, yes(i.Heartbeat)
			if i.Sync {
				name += " (sync)"
			}
			row(name, link(i.Present, i.Carrier), beats, i.Address, i.SharedMAC, i.Sent, i.Received, short(time.Duration(i.LastHeard)), verdict(i), i.Problem)
		}
	})
	writeVerdicts(w, s)
	if len(s.VIPs) > 0 {
		fmt.Fprintln(w)
		table(w, "SHARED ADDRESS|INTERFACE|DEVICE|SHARED MAC", func(row func(...any)) {
			for _, v := range s.VIPs {
				row(v.Address, v.Interface, v.Device, v.MAC)
			}
		})
	}
	if len(s.Rejected) > 0 {
		fmt.Fprintln(w, "\nRejected frames:")
		for _, reason := range slices.Sorted(maps.Keys(s.Rejected)) {
			fmt.Fprintf(w, "  %8d  %s\n", s.Rejected[reason], reason)
		}
	}
	writeControl(w, s)
}

func link(present, carrier bool) string {
	switch {
	case !present:
		return "missing"
	case !carrier:
		return "down"
	}
	return "up"
}

// pollEvents is how often --follow asks for new events.
const pollEvents = 500 * time.Millisecond

func (s *session) eventsCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use: "events", Short: "Show what happened to the cluster, newest last", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, ctx := s.client(), cmd.Context()
			events, err := c.Events(ctx, 0)
			if err != nil {
				return err
			}
			if !follow {
				return show(cmd, s, events, writeEvents)
			}
			var last uint64
			for {
				for _, e := range events {
					last = max(last, e.Seq)
					if err := show(cmd, s, e, writeEvent); err != nil {
						return err
					}
				}
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(pollEvents):
				}
				// While had is started again there is nobody to ask. Its events begin at 1 then.
				if events, err = c.Events(ctx, last); err != nil {
					var e *api.Error
					if !errors.As(err, &e) || e.Status != 0 {
						return err
					}
					events, last = nil, 0
				}
			}
		},
	}
	cmd.Flags().BoolVar(&follow, "follow", false, "go on with new events until Ctrl-C")
	return cmd
}

func writeEvents(w io.Writer, events []member.Event) {
	for _, e := range events {
		writeEvent(w, e)
	}
}

func writeEvent(w io.Writer, e member.Event) {
	fmt.Fprintf(w, "[%9.3f] %-7s %s: %s\n", time.Duration(e.Uptime).Seconds(), e.Severity, e.Name, e.Text)
}
