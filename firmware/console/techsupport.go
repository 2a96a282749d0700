package console

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/techsupport"
)

func (s *session) techsupportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "techsupport [FILE]", Short: "Write one archive of everything that tells how this member is", Args: cobra.MaximumNArgs(1),
		Long: "Hardware, configuration without secrets, policy, states, events, evidence of role changes and the journal, as a gzipped tar. Without\n" +
			"FILE it goes to standard output.",
		Example: "  ssh admin@10.1.0.2 techsupport > gw-a.tar.gz",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				if s.interactive {
					return &api.Error{Message: "an archive is nothing to look at", Hint: "from elsewhere: ssh admin@ADDRESS techsupport > FILE; or give a FILE, e.g. on a mounted stick"}
				}
				return techsupport.Write(cmd.Context(), cmd.OutOrStdout(), s.client(), s.Version)
			}
			if s.Operator != "" {
				return &api.Error{Message: "over the network no file is written on the device", Hint: "ssh admin@ADDRESS techsupport > FILE"}
			}
			f, err := os.OpenFile(args[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			err = errors.Join(techsupport.Write(cmd.Context(), f, s.client(), s.Version), f.Sync(), f.Close())
			if err != nil {
				return errors.Join(err, os.Remove(args[0]))
			}
			return s.say(cmd, "Written to "+args[0]+".")
		},
	}
}
