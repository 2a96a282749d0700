package console

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/traffic"
)

func (s *session) trafficCommand() *cobra.Command {
	var over time.Duration
	cmd := &cobra.Command{
		Use: "traffic [MEMBER]", Short: "Show the volume of traffic of every interface", Args: cobra.MaximumNArgs(1), ValidArgsFunction: s.completePeers,
		Long: "Traffic shows packets and bytes a second over the newest time, which gatewayd remembers for " + api.MaxOver.String() + ". IN and OUT are all that an\n" +
			"interface carries, heartbeats and state sync too. CLUSTER is what came in for the shared MAC: what the cluster forwards, where it\n" +
			"enters. REFUSED is what a shut gate dropped.",
		Example: "  traffic --over 5m\n  traffic gw-b\n  traffic compare",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, ctx := s.client(), cmd.Context()
			t, err := api.Traffic{}, error(nil)
			if len(args) > 0 {
				t, err = c.PeerTraffic(ctx, args[0], over)
			} else {
				t, err = c.Traffic(ctx, over)
			}
			if err != nil {
				return err
			}
			return show(cmd, s, t, writeTraffic)
		},
	}
	compare := &cobra.Command{
		Use: "compare", Short: "Compare the volume with that before the last failover", Args: cobra.NoArgs,
		Long: "Compare holds what comes in for the cluster now against what came in before the last failover: at the member that had the role\n" +
			"then; or, after a fail-back, at this one. The figures of a member that died are those it told its peers last.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := s.client().CompareTraffic(cmd.Context(), over)
			if err != nil {
				return err
			}
			return show(cmd, s, t, writeComparison)
		},
	}
	for _, c := range []*cobra.Command{cmd, compare} {
		c.Flags().DurationVar(&over, "over", api.DefaultOver, "over this time")
	}
	cmd.AddCommand(compare)
	return cmd
}

func writeTraffic(w io.Writer, t api.Traffic) {
	if len(t.Volume.Interfaces) == 0 {
		fmt.Fprintf(w, "%s has not counted for long enough yet; ask again in a few seconds.\n", t.Member)
		return
	}
	fmt.Fprintf(w, "%s over the last %s\n\n", t.Member, short(time.Duration(t.Volume.Over)))
	table(w, "INTERFACE|IN|OUT|CLUSTER|REFUSED", func(row func(...any)) {
		for _, f := range t.Volume.Interfaces {
			row(interfaceName(f), traffic.Words(f.In), traffic.Words(f.Out), traffic.Words(f.Cluster), traffic.Words(f.Refused))
		}
	})
	for _, c := range t.Changes {
		fmt.Fprintf(w, "\nThe role went from %s to %s %s ago, term %d", c.FromName, c.ToName, short(time.Duration(c.Ago)), c.Term)
	}
	if len(t.Changes) > 0 {
		fmt.Fprintln(w)
	}
}

func interfaceName(f api.InterfaceVolume) string {
	if f.Sync {
		return f.Interface + " (sync)"
	}
	return f.Interface
}

func writeComparison(w io.Writer, c api.TrafficComparison) {
	if c.Change != nil {
		fmt.Fprintf(w, "Failover: %s ago, from %s to %s, term %d\n", short(time.Duration(c.Change.Ago)), c.Change.FromName, c.Change.ToName, c.Change.Term)
	}
	if c.Before != nil {
		fmt.Fprintf(w, "Before:   %s, over %s\n", c.Basis, short(time.Duration(c.Before.Over)))
	}
	if len(c.After.Interfaces) > 0 {
		fmt.Fprintf(w, "After:    %s, over the last %s\n\n", c.Member, short(time.Duration(c.After.Over)))
		writeBeforeAfter(w, c)
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%s: %s\n", resultWord(c.Result), c.Text)
	if c.Next != "" {
		fmt.Fprintf(w, "  do: %s\n", c.Next)
	}
}

// writeBeforeAfter has a line for each interface and way; without Before only what is now.
func writeBeforeAfter(w io.Writer, c api.TrafficComparison) {
	table(w, "INTERFACE|WHAT|PACKETS/S BEFORE|AFTER|RATIO|BYTES/S BEFORE|AFTER|RATIO", func(row func(...any)) {
		for _, a := range c.After.Interfaces {
			b, known := api.InterfaceVolume{}, false
			if c.Before != nil {
				for _, f := range c.Before.Interfaces {
					if f.Interface == a.Interface {
						b, known = f, true
					}
				}
			}
			for _, way := range []struct {
				name          string
				before, after api.Rate
			}{{"cluster", b.Cluster, a.Cluster}, {"in", b.In, a.In}, {"out", b.Out, a.Out}} {
				if way.name == "cluster" && a.Sync {
					continue
				}
				before := [2]string{}
				if known {
					before = [2]string{fmt.Sprintf("%.0f", way.before.Packets), fmt.Sprintf("%.0f", way.before.Bytes)}
				}
				row(interfaceName(a), way.name, before[0], fmt.Sprintf("%.0f", way.after.Packets), ratioOf(way.before.Packets, way.after.Packets),
					before[1], fmt.Sprintf("%.0f", way.after.Bytes), ratioOf(way.before.Bytes, way.after.Bytes))
			}
		}
	})
}

func ratioOf(before, after float64) string {
	if before <= 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", after/before)
}
