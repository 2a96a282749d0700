package console

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/init/bootlog"
	"github.com/twinkeep/twinkeep/init/data"
	"github.com/twinkeep/twinkeep/init/supervise"
)

func (s *session) logCommand() *cobra.Command {
	var q api.JournalQuery
	var lines, boot int
	cmd := &cobra.Command{
		Use: "log", Short: "Show the journal of all services", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if boot != 0 {
				return bootlog.Show(terminalSafe{cmd.OutOrStdout()}, filepath.Join(data.Mountpoint, data.JournalDir), boot)
			}
			c, ctx := s.client(), cmd.Context()
			follow := q.Follow
			q.Follow = false
			var newest []supervise.Entry
			err := c.Journal(ctx, q, func(e supervise.Entry) error {
				q.Since = e.Seq
				if newest = append(newest, e); lines > 0 && len(newest) > lines {
					newest = newest[1:]
				}
				return nil
			})
			if err != nil {
				return err
			}
			for _, e := range newest {
				if err := show(cmd, s, e, writeEntry); err != nil {
					return err
				}
			}
			if !follow {
				return nil
			}
			q.Follow = true
			return c.Journal(ctx, q, func(e supervise.Entry) error { return show(cmd, s, e, writeEntry) })
		},
	}
	cmd.Flags().BoolVar(&q.Follow, "follow", false, "go on with new lines until Ctrl-C")
	cmd.Flags().StringVar(&q.Service, "service", "", "only lines of this service")
	cmd.Flags().IntVar(&lines, "lines", 50, "show so many of the newest lines, 0 for all")
	cmd.Flags().IntVar(&boot, "boot", 0, "of an earlier boot: -1 is the one before this, with the kernel's last words if it crashed")
	return cmd
}

// terminalSafe passes text on without what would steer the terminal.
type terminalSafe struct{ w io.Writer }

func (t terminalSafe) Write(p []byte) (int, error) {
	_, err := t.w.Write(bytes.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' || r == 0x7f {
			return '.'
		}
		return r
	}, p))
	return len(p), err
}

func writeEntry(w io.Writer, e supervise.Entry) {
	// Services print what the network sends them; it must not steer the terminal.
	e.Line = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return '.'
		}
		return r
	}, e.Line)
	fmt.Fprintln(w, e)
}

func (s *session) serviceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "service", Short: "Show and restart services", Args: cobra.NoArgs}
	cmd.AddCommand(
		get(s, &cobra.Command{Use: "list", Short: "Show all services"},
			func(c *api.Client, ctx context.Context) ([]supervise.ServiceStatus, error) { return c.Services(ctx) }, writeServices),
		&cobra.Command{
			Use: "restart name", Short: "End a service and start it again", Args: cobra.ExactArgs(1),
			ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
				if len(args) > 0 {
					return nil, cobra.ShellCompDirectiveNoFileComp
				}
				list, _ := s.client().Services(cmd.Context()) // without an answer there is nothing to offer
				for _, v := range list {
					names = append(names, v.Name)
				}
				return names, cobra.ShellCompDirectiveNoFileComp
			},
			RunE: func(cmd *cobra.Command, args []string) error {
				if err := s.client().RestartService(cmd.Context(), args[0]); err != nil {
					return err
				}
				return s.say(cmd, "service "+args[0]+" is being restarted; see service list")
			},
		},
	)
	return cmd
}

func writeServices(w io.Writer, list []supervise.ServiceStatus) {
	table(w, "NAME|STATE|PID|UPTIME|RESTARTS|MEMORY|LAST EXIT", func(row func(...any)) {
		for _, v := range list {
			state := string(v.State)
			if v.CrashLoop && v.State != supervise.CrashLoop {
				state += " (crash-loop)"
			}
			pid, uptime, memory := "", "", ""
			if v.PID != 0 {
				pid, uptime, memory = fmt.Sprint(v.PID), short(v.Uptime), size(uint64(max(v.RSS, 0)))
			}
			row(v.Name, state, pid, uptime, v.Restarts, memory, lastExit(v.LastExit))
		}
	})
}

func lastExit(e *supervise.ExitStatus) string {
	if e == nil {
		return ""
	}
	text := fmt.Sprintf("code %d", e.Code)
	if e.Signal != "" {
		text = e.Signal
	}
	if e.Reason != "" {
		text = e.Reason
	}
	if e.Requested {
		text += " (requested)"
	}
	return text + " after " + short(e.Ran)
}
