package console

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/upgrade/rollout"
)

func (s *session) upgradeCluster() *cobra.Command {
	var force, abort, wait bool
	cmd := &cobra.Command{
		Use: "cluster file|url|oci-reference", Short: "Upgrade all members of the cluster, one after the other, without an outage",
		Long: "Every standby gets the image from this device, restarts into it and must be healthy and in sync with it; then the active\n" +
			"member hands its role over without losing a packet and is upgraded too. When a member does not come to work with the new\n" +
			"image, all go back to what they ran. It goes on by itself when this device restarts or the console is left; upgrade status\n" +
			"shows how far it is.",
		Example: "  upgrade cluster /data/twinkeep.twk\n  upgrade cluster https://example.net/twinkeep.twk\n  upgrade cluster --abort",
		Args: func(cmd *cobra.Command, args []string) error {
			if abort {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c := s.client()
			if abort {
				message, err := c.AbortUpgrade(cmd.Context())
				if err != nil {
					return err
				}
				return s.say(cmd, message)
			}
			name := args[0]
			if !strings.Contains(name, "://") {
				var err error
				if name, err = filepath.Abs(name); err != nil {
					return err
				}
			}
			if err := c.UpgradeCluster(cmd.Context(), api.UpgradeOrder{Source: name, Force: force}); err != nil {
				return err
			}
			if !wait {
				return s.say(cmd, "The upgrade of the cluster begins; see upgrade status.")
			}
			return s.followUpgrade(cmd)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also install an image that is older than the running one")
	cmd.Flags().BoolVar(&abort, "abort", false, "end the upgrade that this device drives: all go back")
	cmd.Flags().BoolVar(&wait, "wait", true, "show how it goes until the end")
	return cmd
}

// followUpgrade prints what changes until the upgrade has come to its end, or this device restarts.
func (s *session) followUpgrade(cmd *cobra.Command) error {
	last := ""
	for {
		u, err := s.client().ClusterUpgrade(cmd.Context())
		switch {
		case err != nil:
			return err
		case u.Fetching == nil && u.Plan == nil || u.Fetching == nil && u.Error != "":
			return &api.Error{Message: either(u.Error, "there is no upgrade of the cluster any more"), Hint: "nothing has changed: no slot of any member was touched"}
		}
		if line := upgradeLine(u); line != last && !s.json {
			last = line
			fmt.Fprintln(cmd.ErrOrStderr(), line)
		}
		if u.Plan != nil && u.Fetching == nil && u.Plan.Phase.Ended() {
			if err := show(cmd, s, u, writeClusterUpgrade); err != nil {
				return err
			}
			if u.Plan.Phase != rollout.Upgraded {
				return errors.New("the cluster was not upgraded: " + u.Plan.Reason)
			}
			return nil
		}
		select {
		case <-cmd.Context().Done():
			return fmt.Errorf("it goes on; see upgrade status: %w", cmd.Context().Err())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// upgradeLine is where it is now, in one line.
func upgradeLine(u api.ClusterUpgrade) string {
	switch {
	case u.Fetching != nil && u.Fetching.All > 0:
		return fmt.Sprintf("fetching the file: %d %%", u.Fetching.Done*100/u.Fetching.All)
	case u.Fetching != nil:
		return "fetching the file"
	case u.Plan.Now != "":
		return u.Plan.Now
	}
	return string(u.Plan.Phase)
}

func writeClusterUpgrade(w io.Writer, u api.ClusterUpgrade) {
	if u.Error != "" {
		fmt.Fprintf(w, "Upgrade of the cluster: %s\n", u.Error)
	}
	if u.Fetching != nil {
		fmt.Fprintf(w, "Upgrade of the cluster: %s\n", upgradeLine(u))
	}
	if u.Plan == nil {
		return
	}
	p := u.Plan
	fmt.Fprintf(w, "Cluster to %v: %s\n", p.Image.Release, p.Phase)
	if p.Now != "" {
		fmt.Fprintf(w, "Now: %s\n", p.Now)
	}
	if p.Reason != "" {
		fmt.Fprintf(w, "Why: %s\n", p.Reason)
	}
	table(w, "MEMBER|STEP|RAN BEFORE|NOTE", func(row func(...any)) {
		for _, m := range p.Members {
			row(m.Name, m.Step, m.From.Version, m.Note)
		}
	})
}
