package console

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/techsupport"
	"github.com/twinkeep/twinkeep/firmware/techsupport/usb"
	"github.com/twinkeep/twinkeep/init/data"
)

// anyStick stands for the only removable disk there is.
const anyStick = "auto"

func (s *session) techsupportCommand() *cobra.Command {
	o := techsupport.Options{Version: s.Version}
	stick := ""
	cmd := &cobra.Command{
		Use: "techsupport [FILE]", Short: "Write one archive of everything that tells how this member is", Args: cobra.MaximumNArgs(1),
		Long: "Hardware, configuration without secrets, policy, states, events, evidence of role changes and the journal, as a gzipped tar. Without\n" +
			"FILE it goes to standard output. --usb writes it onto a USB stick with a FAT or ext4 file system, which can be taken out afterwards;\n" +
			"where there are several, name one: --usb=sdb1.",
		Example: "  ssh admin@10.1.0.2 techsupport > gw-a.tar.gz\n  techsupport --usb",
		RunE: func(cmd *cobra.Command, args []string) error {
			write := func(w io.Writer) error { return techsupport.Write(cmd.Context(), w, s.client(), o) }
			switch {
			case stick != "" && len(args) > 0:
				return &api.Error{Message: "a stick and a file are two places", Hint: "techsupport --usb, or techsupport FILE; to name a stick: --usb=" + args[0]}
			case stick != "":
				return s.techsupportStick(cmd, stick, write)
			case len(args) == 0 && s.interactive:
				return &api.Error{Message: "an archive is nothing to look at", Hint: "from elsewhere: ssh admin@ADDRESS techsupport > FILE; onto a stick: techsupport --usb"}
			case len(args) == 0:
				return write(cmd.OutOrStdout())
			case s.Operator != "":
				return &api.Error{Message: "over the network no file is written on the device", Hint: "ssh admin@ADDRESS techsupport > FILE; onto a stick in the device: techsupport --usb"}
			}
			f, err := os.OpenFile(args[0], os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			if err = errors.Join(write(f), f.Sync(), f.Close()); err != nil {
				return errors.Join(err, os.Remove(args[0]))
			}
			return s.say(cmd, "Written to "+args[0]+".")
		},
	}
	cmd.Flags().StringVar(&stick, "usb", "", "write it onto a USB stick")
	cmd.Flags().Lookup("usb").NoOptDefVal = anyStick
	cmd.Flags().BoolVar(&o.Policy, "policy", false, "with the document of the policy, not only its revision and digest")
	return cmd
}

// unfit are characters that have no place in a file's name on FAT.
var unfit = regexp.MustCompile(`[^A-Za-z0-9-]+`)

// techsupportStick writes the archive onto a removable disk.
func (s *session) techsupportStick(cmd *cobra.Command, name string, write func(io.Writer) error) error {
	if name == anyStick {
		name = ""
	}
	disk, _ := data.Read() // an image that does not run from a disk has none to spare
	all, err := usb.Find(disk.Name)
	if err != nil {
		return err
	}
	v, err := usb.Choose(all, name)
	if err != nil {
		return stickError(err)
	}
	member := "member"
	if n, err := s.client().Node(cmd.Context()); err == nil && n.Hostname != "" {
		member = unfit.ReplaceAllString(n.Hostname, "-")
	}
	// The clock may be wrong: it is a name, and one that is taken gets a number.
	file, err := usb.Write(v, fmt.Sprintf("techsupport-%s-%s.tar.gz", member, time.Now().UTC().Format("20060102-150405")), write)
	if err != nil {
		return stickError(err)
	}
	return s.say(cmd, fmt.Sprintf("Written to %s as %s. The stick can be taken out.", v, file))
}

func stickError(err error) error {
	var e *usb.Error
	if errors.As(err, &e) {
		return &api.Error{Message: e.Text, Hint: e.Hint, Cause: err}
	}
	return err
}
