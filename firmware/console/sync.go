package console

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
)

func (s *session) syncCommand() *cobra.Command {
	return get(s, &cobra.Command{
		Use: "sync", Short: "Show whether connections are replicated",
		Long: "Sync shows whether this member has the connections of the member that holds the role, how far behind its peers are, and\n" +
			"what was repaired or refused.",
	}, (*api.Client).Sync, writeSync)
}

func writeSync(w io.Writer, s api.SyncStatus) {
	state := "NOT IN SYNC"
	if s.InSync {
		state = "IN SYNC"
	}
	fmt.Fprintf(w, "%s for %s: %s\n", state, long(time.Duration(s.Since)), s.Text)
	if s.RoleError != "" {
		fmt.Fprintf(w, "Role:        unknown: %s\n", s.RoleError)
	}
	fmt.Fprintf(w, "Connections: %d replicated, %d expectations; table %d of %d\n", s.Entries, s.Expectations, s.TableCount, s.TableMax)
	if s.Full {
		fmt.Fprintln(w, "Table:       FULL: connections of the holder are missing here")
	}
	fmt.Fprintf(w, "Rates:       %.0f events/s, %.0f sent/s, %.0f received/s\n\n", s.EventRate, s.OutRate, s.InRate)
	table(w, "ID|NAME|LINK|SINCE|IN SYNC|CONNECTIONS|LAG|QUEUE|DIGEST", func(row func(...any)) {
		for _, p := range s.Peers {
			if !p.Connected {
				row(p.Member, p.Name, "none", short(time.Duration(p.Since)), "-", "-", "-", "-", "-")
				continue
			}
			name, digest := p.Name, p.Digest
			if p.Holder {
				name += " (holder)"
			}
			if p.Repairing {
				digest += ", repairing"
			}
			row(p.Member, name, p.Via, short(time.Duration(p.Since)), yes(p.InSync), p.Entries, lag(p), size(uint64(p.Queue)), digest)
		}
	})
	t := s.Stats
	fmt.Fprintf(w, "\nDigests:     %d compared, %d differed; %d repairs here, %d for peers\n", t.Compared, t.Differed, t.Repairs, t.RepairsGiven)
	fmt.Fprintf(w, "Resyncs:     %d after lost events; %d gaps in peers' streams, %d batches not sent because a queue was full\n", t.Lost, t.Gaps, t.Overflows)
	fmt.Fprintf(w, "Walks:       %d, the last took %v; %d entries found changed, %d ended unnoticed, %d removed, %d refreshed\n", t.Passes, t.PassTook.Round(time.Millisecond), t.Found, t.Gone, t.Removed, t.Refreshed)
	if s.Held > 0 {
		fmt.Fprintf(w, "Held:        %d first packets until the peers had their connection, %d of them not long enough; %d lost because too many waited\n", s.Held, s.HeldLate, s.HeldDropped)
	}
	counts(w, "Refused entries", t.Refused)
	counts(w, "Connections refused or ended", s.Sessions)
}

func lag(p api.SyncPeer) string {
	if p.Lag == 0 {
		return "-"
	}
	return fmt.Sprintf("%v (peak %v)", time.Duration(p.Lag).Round(100*time.Microsecond), time.Duration(p.LagPeak).Round(100*time.Microsecond))
}

func counts[K ~string](w io.Writer, title string, n map[K]uint64) {
	if len(n) == 0 {
		return
	}
	fmt.Fprintf(w, "%s:\n", title)
	for _, reason := range slices.Sorted(maps.Keys(n)) {
		fmt.Fprintf(w, "  %8d  %s\n", n[reason], string(reason))
	}
}

func (s *session) connDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff [MEMBER]", Short: "Compare the connections here with those of a peer", Args: cobra.MaximumNArgs(1), ValidArgsFunction: s.completePeers,
		RunE: func(cmd *cobra.Command, args []string) error {
			peer := ""
			if len(args) > 0 {
				peer = args[0]
			}
			d, err := s.client().Diff(cmd.Context(), peer)
			if err != nil {
				return err
			}
			return show(cmd, s, d, writeDiff)
		},
	}
}

func writeDiff(w io.Writer, d api.SyncDiff) {
	if d.Buckets == 0 {
		fmt.Fprintf(w, "The connections here and at %s are equal.\n", d.Peer)
		return
	}
	for _, part := range []struct {
		title string
		lines []string
	}{{"Only here", d.Here}, {"Only at " + d.Peer, d.There}, {"Different", d.Changed}} {
		if len(part.lines) == 0 {
			continue
		}
		fmt.Fprintf(w, "%s: %d\n", part.title, len(part.lines))
		for _, l := range part.lines {
			fmt.Fprintf(w, "  %s\n", l)
		}
	}
	if len(d.Here)+len(d.There)+len(d.Changed)+d.Expectations == 0 {
		fmt.Fprintf(w, "%d of 1024 buckets differed, and no longer do: connections changed meanwhile.\n", d.Buckets)
	}
	if d.Expectations > 0 {
		fmt.Fprintf(w, "%d expectations differ\n", d.Expectations)
	}
	if d.Trimmed {
		fmt.Fprintln(w, "There is more than fits.")
	}
}
