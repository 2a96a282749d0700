package console

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/secureboot"
	"github.com/twinkeep/twinkeep/firmware/upgrade"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp"
)

func (s *session) secureBootCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "secureboot", Short: "Show UEFI secure boot, and enrol the keys of this image", Args: cobra.NoArgs}
	cmd.AddCommand(
		&cobra.Command{
			Use: "status", Short: "Show whether the firmware starts signed images only", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				st, err := secureboot.Read("")
				if err != nil {
					return err
				}
				return show(cmd, s, st, writeSecureBoot)
			},
		},
		&cobra.Command{
			Use: "enrol", Aliases: []string{"enroll"}, Short: "Put the keys that signed this image into the firmware, which must be in setup mode", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				sys, err := esp.Open()
				if err != nil {
					return err
				}
				defer sys.Close()
				if err := secureboot.Enrol("", filepath.Join(sys.Root, upgrade.SecureBootKeys)); err != nil {
					return err
				}
				return s.say(cmd, "The keys are in the firmware. From the next start on it starts only what they have signed.")
			},
		},
	)
	return cmd
}

func writeSecureBoot(w io.Writer, st secureboot.Status) {
	switch {
	case !st.Supported:
		fmt.Fprintln(w, "This firmware has no secure boot.")
	case st.Enabled:
		fmt.Fprintln(w, "Secure boot is on: only signed images start.")
	case st.SetupMode:
		fmt.Fprintln(w, "Secure boot is off; the firmware is in setup mode and takes keys: secureboot enrol")
	default:
		fmt.Fprintln(w, "Secure boot is off.")
	}
}
