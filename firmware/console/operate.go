package console

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/ha/member"
)

func (s *session) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "explain [N]", Short: "Explain a change of the role: its reason and the evidence at that moment", Args: cobra.MaximumNArgs(1),
		Long: "Explain shows the newest change of the role that this device saw, or the N-th newest: who became active or gave up the role,\n" +
			"why, when and where the last heartbeat of each peer was heard, the problems of this device, and the votes.",
		Example: "  cluster explain\n  cluster explain 2",
		RunE: func(cmd *cobra.Command, args []string) error {
			n := 1
			if len(args) == 1 {
				var err error
				if n, err = strconv.Atoi(args[0]); err != nil || n < 1 {
					return &api.Error{Message: fmt.Sprintf("%q is not a number from 1", args[0]), Hint: "1 is the newest change"}
				}
			}
			changes, err := s.client().Changes(cmd.Context())
			if err != nil {
				return err
			}
			switch {
			case len(changes) == 0:
				return s.say(cmd, "The role has not changed hands since this member started.")
			case n > len(changes):
				return &api.Error{Message: "so long ago nothing is known: there are " + plural(len(changes), "change"), Hint: "see cluster failovers"}
			}
			return show(cmd, s, changes[n-1], writeChange)
		},
	}
}

func (s *session) lockCommand() *cobra.Command {
	return get(s, &cobra.Command{Use: "lock", Short: "Show whether the role is locked after an unplanned takeover",
		Long: "With cluster.lock in the node file, a member that took the role unplanned keeps it: nobody gets it back until an operator has\n" +
			"looked at what happened and says cluster clear-lock, on that member."},
		func(c *api.Client, ctx context.Context) (member.Status, error) { return c.HA(ctx) },
		func(w io.Writer, st member.Status) {
			switch {
			case st.Locked != "":
				fmt.Fprintf(w, "The role is locked here: %s\nLet it be given back with: cluster clear-lock\n", st.Locked)
			case st.Lock && st.Holder != 0 && st.Holder != st.Member:
				fmt.Fprintf(w, "The role is with %s; whether it is locked is known there.\n", nameOf(st, st.Holder))
			case st.Lock:
				fmt.Fprintln(w, "The role is not locked. An unplanned takeover locks it.")
			default:
				fmt.Fprintln(w, "The role is never locked: the node file has no cluster.lock.")
			}
		})
}

func (s *session) clearLockCommand() *cobra.Command {
	return s.order(&cobra.Command{Use: "clear-lock", Short: "Let the role be given back after an unplanned takeover", Args: cobra.NoArgs},
		func(c *api.Client, ctx context.Context, _ []string) (string, error) { return c.ClearLock(ctx) })
}

// listed finds a member of the cluster by name or ID.
func listed(st member.Status, name string) (id uint8, alive bool, err error) {
	if name == st.MemberName || name == strconv.Itoa(int(st.Member)) {
		return st.Member, true, nil
	}
	for _, p := range st.Peers {
		if name == p.Name || name == strconv.Itoa(int(p.Member)) {
			return p.Member, p.Alive, nil
		}
	}
	return 0, false, &api.Error{Message: fmt.Sprintf("there is no member %q", name), Hint: "see cluster state"}
}

func (s *session) completeMembers(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, directive := s.completePeers(cmd, args, word)
	ctx, cancel := context.WithTimeout(context.Background(), quick)
	defer cancel()
	if st, err := s.client().HA(ctx); err == nil && !judges(st) {
		names = append([]string{st.MemberName}, names...)
	}
	return names, directive
}

func (s *session) priorityCommand() *cobra.Command {
	return &cobra.Command{
		Use: "priority [MEMBER [N]]", Short: "Show the priorities, or set one in this device's node file", Args: cobra.MaximumNArgs(2),
		Long: "The highest priority is the designated master. Priority sets a member's in the node file of this device, comments kept, and puts\n" +
			"it in force without giving up the role. The node files of the others need the same change; until they have it, cluster state\n" +
			"shows the difference.",
		Example: "  cluster priority\n  cluster priority gw-b 130", ValidArgsFunction: s.completeMembers,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, ctx := s.client(), cmd.Context()
			st, err := c.HA(ctx)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return show(cmd, s, st, writePriorities)
			}
			id, _, err := listed(st, args[0])
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return s.say(cmd, fmt.Sprintf("%s has priority %d.", nameOf(st, id), priorityOf(st, id)))
			}
			n, err := strconv.ParseUint(args[1], 10, 8)
			if err != nil || n == 0 {
				return &api.Error{Message: fmt.Sprintf("priority %q is not a number from 1 to 255", args[1])}
			}
			if err := s.editNode(cmd, func(file []byte) ([]byte, error) { return node.SetPriority(file, id, uint8(n)) }); err != nil {
				return err
			}
			if _, err := c.SetPriority(ctx, api.Priority{Member: id, Priority: uint8(n)}); err != nil {
				return err
			}
			return s.say(cmd, fmt.Sprintf("%s has priority %d here, in the node file and in force.%s", nameOf(st, id), n, elsewhere(st, 0)))
		},
	}
}

func priorityOf(st member.Status, id uint8) uint8 {
	for _, p := range st.Peers {
		if p.Member == id {
			return p.Priority
		}
	}
	return st.Priority
}

func writePriorities(w io.Writer, st member.Status) {
	type line struct {
		id       uint8
		name     string
		priority uint8
	}
	var lines []line
	if !judges(st) {
		lines = append(lines, line{st.Member, st.MemberName, st.Priority})
	}
	for _, p := range st.Peers {
		lines = append(lines, line{p.Member, p.Name, p.Priority})
	}
	slices.SortFunc(lines, func(a, b line) int {
		if a.priority != b.priority {
			return int(b.priority) - int(a.priority)
		}
		return int(a.id) - int(b.id)
	})
	table(w, "ID|NAME|PRIORITY|ROLE", func(row func(...any)) {
		for i, l := range lines {
			text := ""
			if i == 0 {
				text = "designated master"
			}
			row(l.id, l.name, l.priority, text)
		}
	})
}

// elsewhere says whose node files need the same change, all but that of one member.
func elsewhere(st member.Status, but uint8) string {
	var names []string
	for _, p := range st.Peers {
		if p.Member != but {
			names = append(names, p.Name)
		}
	}
	for _, v := range st.Witnesses {
		names = append(names, v.Name)
	}
	if len(names) == 0 {
		return ""
	}
	return " The node files of " + strings.Join(names, ", ") + " need the same change."
}

// editNode changes the node file of this device. It is checked and applied as by node edit; had is not told.
func (s *session) editNode(cmd *cobra.Command, change func([]byte) ([]byte, error)) error {
	c, ctx := s.client(), cmd.Context()
	if st, err := c.Node(ctx); err == nil && st.Policy != "" {
		return &api.Error{Message: "nothing was changed: this device runs by a policy", Hint: "change it in the policy, and install that"}
	}
	old, err := c.NodeFile(ctx)
	if err != nil {
		return err
	}
	file, err := change(old)
	if err != nil {
		return &api.Error{Message: "nothing was changed: " + err.Error(), Cause: err}
	}
	status, err := c.PutNode(ctx, file)
	if err != nil {
		return explain(cmd, err, file)
	}
	if !status.Applied {
		return &api.Error{Message: "the node file is saved, but not in force", Hint: "see node show"}
	}
	return nil
}

func (s *session) removeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove MEMBER", Short: "Take a member off the list in this device's node file", Args: cobra.ExactArgs(1),
		Long: "Remove takes a member that has been shut down for good off the list, comments kept, and forgets it without giving up the role.\n" +
			"The node files of all the others need the same change before it may be started again: whoever still lists it counts its vote.",
		Example: "  cluster remove gw-c", ValidArgsFunction: s.completeMembers,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, ctx := s.client(), cmd.Context()
			st, err := c.HA(ctx)
			if err != nil {
				return err
			}
			id, alive, err := listed(st, args[0])
			switch {
			case err != nil:
				return err
			case id == st.Member && forwards(st.State):
				return &api.Error{Message: "this device is active and cannot remove itself", Hint: "cluster failover, then shutdown here and cluster remove on the others"}
			case id == st.Member:
				return &api.Error{Message: "this device cannot remove itself from its own node file", Hint: "shutdown here, then cluster remove on the others"}
			case alive:
				return &api.Error{Message: fmt.Sprintf("%s is alive", nameOf(st, id)), Hint: "shut it down first"}
			}
			if err := s.editNode(cmd, func(file []byte) ([]byte, error) { return node.RemoveMember(file, id) }); err != nil {
				return err
			}
			if _, err := c.RemoveMember(ctx, api.Remove{Member: id}); err != nil {
				return err
			}
			message := fmt.Sprintf("%s is off the list here, in the node file and in force.%s", nameOf(st, id), elsewhere(st, id))
			if q := st.Quorum; q != nil {
				left := q.Voters - 1
				message += fmt.Sprintf(" The majority is %d of %d now; do not start %s again before all have the change.", left/2+1, left, nameOf(st, id))
			}
			return s.say(cmd, message)
		},
	}
}

func (s *session) watchCommand() *cobra.Command {
	onOff := []string{"on", "off"}
	return s.order(&cobra.Command{
		Use: "interface NAME heartbeat|monitor on|off", Short: "Change until the next start how an interface is used", Args: cobra.ExactArgs(3),
		Long: "Heartbeat off sends no heartbeats there; the last interface that carries them cannot be switched off. Monitor off does not count\n" +
			"a missing carrier as a problem. Both last until had starts again; heartbeat: false in the node file lasts for good.",
		Example: "  cluster interface G2 heartbeat off\n  cluster interface G2 monitor on",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) (words []string, _ cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				ctx, cancel := context.WithTimeout(context.Background(), quick)
				defer cancel()
				if st, err := s.client().HA(ctx); err == nil {
					for _, f := range st.Interfaces {
						words = append(words, f.Name)
					}
				}
			case 1:
				words = []string{"heartbeat", "monitor"}
			case 2:
				words = onOff
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		},
	}, func(c *api.Client, ctx context.Context, args []string) (string, error) {
		w := api.Watch{Interface: args[0]}
		on := args[2] == "on"
		switch {
		case !slices.Contains(onOff, args[2]):
			return "", &api.Error{Message: fmt.Sprintf("%q is neither on nor off", args[2])}
		case args[1] == "heartbeat":
			w.Heartbeat = &on
		case args[1] == "monitor":
			w.Monitor = &on
		default:
			return "", &api.Error{Message: fmt.Sprintf("%q is neither heartbeat nor monitor", args[1])}
		}
		return c.Watch(ctx, w)
	})
}
