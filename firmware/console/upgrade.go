package console

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp"
	"github.com/twinkeep/twinkeep/firmware/upgrade/source"
	"github.com/twinkeep/twinkeep/firmware/upgrade/trial"
	"github.com/twinkeep/twinkeep/init/supervise"
)

// defaultConfig is the config directory of the box.
const defaultConfig = "/etc/twinkeep"

func (s *session) upgradeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "upgrade", Short: "Install another image, confirm it, or go back", Args: cobra.NoArgs,
		Long: "There are two slots, A and B. A new image goes into the one that does not run, is started once on trial, and becomes\n" +
			"permanent when this device has been healthy with it for a minute. If it hangs, panics, loses power or is not healthy\n" +
			"within ten minutes, the old image comes back by itself.",
	}
	cmd.AddCommand(s.upgradeStatus(), s.upgradeInstall(), s.upgradeCluster(), s.upgradeConfirm(), s.upgradeRollback())
	return cmd
}

// slotStatus is one slot in upgrade status.
type slotStatus struct {
	Slot     upgrade.Slot  `json:"slot"`
	Running  bool          `json:"running"`
	Next     bool          `json:"next"` // boots next
	State    upgrade.State `json:"state,omitempty"`
	Version  string        `json:"version,omitempty"`
	Revision uint64        `json:"revision,omitempty"`
	Board    string        `json:"board,omitempty"`
	Problem  string        `json:"problem,omitempty"`
}

// upgradeState is what upgrade status shows.
type upgradeState struct {
	Slots   []slotStatus        `json:"slots"`
	Problem string              `json:"problem,omitempty"` // with the disk
	Cluster *api.ClusterUpgrade `json:"cluster,omitempty"`
}

func (s *session) upgradeStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show both slots, what runs and what boots next, and the upgrade of the cluster", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sys, err := s.Slots.Open()
			if err != nil {
				return err
			}
			st := upgradeState{Slots: slots(sys)}
			if err := sys.Close(); err != nil { // what was read is right all the same
				st.Problem = err.Error()
			}
			if c, err := s.client().ClusterUpgrade(cmd.Context()); err == nil && (c.Plan != nil || c.Fetching != nil || c.Error != "") {
				st.Cluster = &c
			}
			return show(cmd, s, st, func(w io.Writer, st upgradeState) {
				writeSlots(w, st.Slots)
				if st.Problem != "" {
					fmt.Fprintf(w, "problem: %s: no upgrade is possible; replace the disk\n", st.Problem)
				}
				if st.Cluster != nil {
					fmt.Fprintln(w)
					writeClusterUpgrade(w, *st.Cluster)
				}
			})
		},
	}
}

func slots(sys *esp.System) []slotStatus {
	var next upgrade.Slot
	if order := sys.Box.Table.Order(); len(order) > 0 {
		next = order[0].Slot
	}
	var list []slotStatus
	for _, slot := range []upgrade.Slot{upgrade.A, upgrade.B} {
		st := slotStatus{Slot: slot, Running: slot == sys.Box.Running, Next: slot == next}
		if es := sys.Box.Table.Of(slot); len(es) > 0 {
			st.State = es[0].State(st.Running)
			r, err := sys.Release(slot)
			st.Version, st.Revision, st.Board = r.Version, r.Revision, r.Board
			if err != nil {
				st.Problem = err.Error()
			}
		}
		list = append(list, st)
	}
	return list
}

func writeSlots(w io.Writer, list []slotStatus) {
	table(w, "SLOT|RUNS|BOOTS NEXT|STATE|VERSION|REVISION|BOARD", func(row func(...any)) {
		mark := map[bool]string{true: "yes"}
		for _, v := range list {
			state := string(v.State)
			if state == "" {
				state = "empty"
			}
			row(v.Slot, mark[v.Running], mark[v.Next], state, v.Version, v.Revision, v.Board)
		}
	})
	for _, v := range list {
		if v.Problem != "" {
			fmt.Fprintf(w, "problem: %s\n", v.Problem)
		}
	}
}

func (s *session) upgradeInstall() *cobra.Command {
	var force, stay bool
	cmd := &cobra.Command{
		Use: "install file|url|oci-reference|-", Short: "Write an upgrade file into the idle slot and restart into it on trial", Args: cobra.ExactArgs(1),
		Example: "  upgrade install /data/twinkeep.twk\n  upgrade install https://example.net/twinkeep.twk\n  upgrade install oci://manager.example.net/firmware/twinkeep:v2\n  upgrade install /dev/sdb   (the file written to a stick with dd)\n" +
			"  ssh admin@gateway upgrade install - < twinkeep.twk   (from the workstation)",
		RunE: func(cmd *cobra.Command, args []string) error {
			sys, err := s.Slots.Open()
			if err != nil {
				return err
			}
			defer sys.Close()
			src, err := s.upgradeFile(cmd, args[0], sys.Box.Release.Board)
			if err != nil {
				return err
			}
			defer src.Close()
			c, err := sys.Install(src, force, s.progress(cmd))
			if err != nil {
				return &api.Error{Message: err.Error(), Hint: "nothing has changed: the running image and the slots are as they were", Cause: err}
			}
			if err := sys.Close(); err != nil {
				return err
			}
			text := fmt.Sprintf("%v is in slot %s and boots next, on trial.", c.Release, sys.Box.Running.Other())
			if w := sys.Box.Watchdog; w == "" || w == upgrade.NoWatchdog {
				text += " If its kernel hangs before it has armed the watchdog, a power cycle brings this image back."
			}
			if stay {
				return s.say(cmd, text+" It starts with: reboot")
			}
			if err := s.say(cmd, text+" This device restarts."); err != nil {
				return err
			}
			return s.client().Shutdown(cmd.Context(), supervise.Reboot)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also install an image that is older than the running one")
	cmd.Flags().BoolVar(&stay, "no-reboot", false, "do not restart now")
	return cmd
}

// upgradeFile opens what is to be installed; "-" is what comes in by the standard input, as over SSH.
func (s *session) upgradeFile(cmd *cobra.Command, name, board string) (*source.Source, error) {
	if name != "-" {
		return source.Open(cmd.Context(), name, source.Options{ConfigDir: defaultConfig, Board: board})
	}
	if f, ok := cmd.InOrStdin().(*os.File); s.interactive || ok && term.IsTerminal(int(f.Fd())) {
		return nil, &api.Error{Message: "- stands for the standard input, which is this console", Hint: "on your workstation: ssh admin@gateway upgrade install - < twinkeep.twk"}
	}
	return &source.Source{ReadCloser: io.NopCloser(cmd.InOrStdin()), Size: -1}, nil
}

// progress prints how far a long write is, at most five times a second.
func (s *session) progress(cmd *cobra.Command) func(done, all int64) {
	var last time.Time
	return func(done, all int64) {
		if s.json || all == 0 || time.Since(last) < 200*time.Millisecond && done < all {
			return
		}
		last = time.Now()
		const width = 40
		filled := int(done * width / all)
		fmt.Fprintf(cmd.ErrOrStderr(), "\r[%-*s] %3d%%", width, bar[:filled], done*100/all)
		if done == all {
			fmt.Fprintln(cmd.ErrOrStderr())
		}
	}
}

const bar = "########################################"

func (s *session) upgradeConfirm() *cobra.Command {
	return &cobra.Command{
		Use: "confirm", Short: "Make the running image permanent now, without waiting for the member to be healthy", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text := ""
			if err := (trial.Box{RunDir: s.Run}).Confirm(func(format string, args ...any) { text = fmt.Sprintf(format, args...) }); err != nil {
				return err
			}
			return s.say(cmd, text)
		},
	}
}

func (s *session) upgradeRollback() *cobra.Command {
	var sure, stay bool
	cmd := &cobra.Command{
		Use: "rollback", Short: "Restart into the image in the other slot, on trial", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !sure {
				line, err := s.readLine("Type yes to go back to the other image: ")
				if err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				if line != "yes" {
					return errors.New("nothing was done")
				}
			}
			sys, err := s.Slots.Open()
			if err != nil {
				return err
			}
			defer sys.Close()
			slot, err := sys.Rollback()
			if err != nil {
				return err
			}
			if err := sys.Close(); err != nil {
				return err
			}
			text := fmt.Sprintf("Slot %s boots next.", slot)
			if stay {
				return s.say(cmd, text)
			}
			if err := s.say(cmd, text+" This device restarts."); err != nil {
				return err
			}
			return s.client().Shutdown(cmd.Context(), supervise.Reboot)
		},
	}
	cmd.Flags().BoolVar(&sure, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&stay, "no-reboot", false, "do not restart now")
	return cmd
}
