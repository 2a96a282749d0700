package console

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/ha/member"
)

// order makes a command that has a daemon do something and shows its answer.
func (s *session) order(cmd *cobra.Command, do func(c *api.Client, ctx context.Context, args []string) (string, error)) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		message, err := do(s.client(), cmd.Context(), args)
		if err != nil {
			return err
		}
		return s.say(cmd, message)
	}
	return cmd
}

func (s *session) failoverCommand() *cobra.Command {
	var to string
	var away time.Duration
	cmd := s.order(&cobra.Command{
		Use: "failover", Short: "Give the active role to another member", Args: cobra.NoArgs,
		Long:    "Failover moves the active role from this device to another member, without losing a packet on the way.",
		Example: "  cluster failover\n  cluster failover --to gw-b --for 10m",
	}, func(c *api.Client, ctx context.Context, _ []string) (string, error) {
		return c.Failover(ctx, api.Failover{To: to, For: member.Duration(away)})
	})
	cmd.Flags().StringVar(&to, "to", "", "name or ID of the member that is to have it (default: the best)")
	cmd.Flags().DurationVar(&away, "for", 0, "ask for the role back after this time")
	cmd.RegisterFlagCompletionFunc("to", s.completePeers)
	return cmd
}

func (s *session) completePeers(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), quick)
	defer cancel()
	var names []string
	if status, err := s.client().HA(ctx); err == nil {
		for _, p := range status.Peers {
			names = append(names, p.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (s *session) downCommand() *cobra.Command {
	var persist bool
	cmd := s.order(&cobra.Command{
		Use: "down", Short: "Take this device down: it gives up the role and does not take it again", Args: cobra.NoArgs,
		Long: "Down reports a problem of the critical device " + api.AdminDown + ". A fit member takes over; where there is none, this device goes\n" +
			"on as ACTIVE!. Everything else keeps running. cluster up undoes it, and so does a restart unless -p is given.",
	}, func(c *api.Client, ctx context.Context, _ []string) (string, error) {
		return c.ReportDevice(ctx, api.AdminDown, api.DeviceReport{State: "problem", Text: "taken down by an operator", Persist: persist})
	})
	cmd.Flags().BoolVarP(&persist, "persistent", "p", false, "also after a restart")
	return cmd
}

func (s *session) upCommand() *cobra.Command {
	return s.order(&cobra.Command{Use: "up", Short: "Undo cluster down", Args: cobra.NoArgs},
		func(c *api.Client, ctx context.Context, _ []string) (string, error) {
			return c.UnregisterDevice(ctx, api.AdminDown)
		})
}

func (s *session) deviceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "device", Short: "Show and report critical devices: what makes this device unfit when it fails", Args: cobra.NoArgs}
	var timeout time.Duration
	register := s.order(&cobra.Command{
		Use: "register NAME", Short: "Register a critical device; it is ok to begin with", Args: cobra.ExactArgs(1),
		Example: "  cluster device register dns --timeout 2s",
	}, func(c *api.Client, ctx context.Context, args []string) (string, error) {
		return c.ReportDevice(ctx, args[0], api.DeviceReport{State: "ok", Timeout: member.Duration(timeout)})
	})
	register.Flags().DurationVar(&timeout, "timeout", 0, "silent for longer is a problem (default: it may be silent)")
	report := s.order(&cobra.Command{
		Use: "report NAME ok|init|problem [TEXT]", Short: "Say how a critical device is", Args: cobra.RangeArgs(2, 3),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return []string{"ok", "init", "problem"}, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
	}, func(c *api.Client, ctx context.Context, args []string) (string, error) {
		r := api.DeviceReport{State: args[1]}
		if len(args) == 3 {
			r.Text = args[2]
		}
		return c.ReportDevice(ctx, args[0], r)
	})
	unregister := s.order(&cobra.Command{Use: "unregister NAME", Short: "Take a critical device off the list", Args: cobra.ExactArgs(1)},
		func(c *api.Client, ctx context.Context, args []string) (string, error) {
			return c.UnregisterDevice(ctx, args[0])
		})
	cmd.AddCommand(register, report, unregister,
		get(s, &cobra.Command{Use: "list", Short: "Show all critical devices"},
			func(c *api.Client, ctx context.Context) (member.Status, error) { return c.HA(ctx) }, writeDevices))
	return cmd
}

// writeDevices lists the built-in device, the interfaces, and the registered ones.
func writeDevices(w io.Writer, s member.Status) {
	state, text := "ok", ""
	for _, f := range s.Interfaces {
		if !f.Present || !f.Carrier || f.Problem != "" {
			state, text = "problem", either(f.Problem, f.Name+": no carrier")
			break
		}
	}
	table(w, "DEVICE|STATE|TIMEOUT|REPORTED|TEXT", func(row func(...any)) {
		row("Interface Active Check", state, "", "", text)
		for _, d := range s.Devices {
			timeout := ""
			if d.Timeout > 0 {
				timeout = time.Duration(d.Timeout).String()
			}
			row(d.Name, d.State, timeout, short(time.Duration(d.Reported))+" ago", d.Text)
		}
	})
	if len(s.Problems) > 0 {
		fmt.Fprintf(w, "\nThis device is not fit: %s.\n", plural(len(s.Problems), "problem"))
	}
}

// writeFailovers is the history of the role as this member saw it, newest last, each with its evidence.
func writeFailovers(w io.Writer, s member.Status) {
	if len(s.Failover.History) == 0 {
		fmt.Fprintln(w, "Nobody has become active since this member started.")
		return
	}
	table(w, "AGO|ACTIVE|TERM|WHY", func(row func(...any)) {
		for _, f := range s.Failover.History {
			row(short(time.Duration(f.Ago)), f.Holder, f.Term, f.Reason)
		}
	})
}
