package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/hardware"
)

func (s *session) hardwareDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff PEER|FILE [FILE]", Short: "Compare the hardware of two members: what gives them different shared MACs", Args: cobra.RangeArgs(1, 2),
		Long: "Diff compares this member with another one, which is asked, or with a file: what hardware --json prints, or an archive of techsupport\n" +
			"(- is standard input). Two files are compared with each other, on any machine. What separates the members comes first, with its remedy.",
		Example:           "  hardware diff gw-b\n  twinkeep hardware diff gw-a.tar.gz gw-b.tar.gz\n  ssh admin@10.1.0.2 hardware diff - < gw-b.tar.gz",
		ValidArgsFunction: s.completeMembers,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				return s.hardwareDiff(cmd, func() (api.Hardware, string, error) { return s.hardwareOf(cmd, args[0]) }, args[1])
			}
			return s.hardwareDiff(cmd, func() (api.Hardware, string, error) { return s.ownHardware(cmd.Context()) }, args[0])
		},
	}
}

func (s *session) hardwareDiff(cmd *cobra.Command, first func() (api.Hardware, string, error), second string) error {
	here, hereName, err := first()
	if err != nil {
		return err
	}
	there, thereName, err := s.hardwareOf(cmd, second)
	if err != nil {
		return err
	}
	return show(cmd, s, hardware.Compare(hereName, here, thereName, there), writeHardwareDiff)
}

// ownHardware is that of this member, and its name.
func (s *session) ownHardware(ctx context.Context) (api.Hardware, string, error) {
	c := s.client()
	h, err := c.Hardware(ctx)
	if err != nil {
		return h, "", err
	}
	name := "this device"
	if n, err := c.Node(ctx); err == nil && n.Hostname != "" {
		name = n.Hostname
	}
	return h, name, nil
}

// hardwareOf is that of a peer, or in a file. Over the network no file of the device is read.
func (s *session) hardwareOf(cmd *cobra.Command, what string) (api.Hardware, string, error) {
	if what == "-" && !s.interactive {
		return named(what, cmd.InOrStdin())
	}
	f, err := os.Open(what)
	switch {
	case s.Operator != "" && (err == nil || strings.Contains(what, "/")):
		if err == nil {
			f.Close()
		}
		if !strings.Contains(what, "/") {
			break // a file that happens to have the name of a peer
		}
		return api.Hardware{}, "", &api.Error{Message: "over the network no file of the device is read", Hint: "ssh admin@ADDRESS hardware diff - < FILE"}
	case err == nil:
		defer f.Close()
		return named(what, f)
	case !errors.Is(err, fs.ErrNotExist), strings.ContainsAny(what, "/."):
		return api.Hardware{}, "", err
	}
	h, err := s.client().PeerHardware(cmd.Context(), what)
	return h, what, err
}

// named reads a file and gives its member a name: the one in the file, or the file's.
func named(file string, r io.Reader) (api.Hardware, string, error) {
	h, name, err := hardware.Read(r)
	if err != nil {
		return h, "", &api.Error{Message: fmt.Sprintf("%s: %v", file, err), Hint: "give the output of hardware --json, or an archive of techsupport"}
	}
	if file == "-" {
		file = "standard input"
	}
	return h, either(name, filepath.Base(file)), nil
}

var effects = map[hardware.Effect]string{hardware.Separate: "SEPARATES", hardware.Risk: "risk", hardware.Note: "note"}

// writeHardwareDiff shows a comparison. Its texts come from another member, or a file: they must not steer the terminal.
func writeHardwareDiff(w io.Writer, c hardware.Comparison) {
	w = terminalSafe{w}
	if c.SameSharedMACs {
		fmt.Fprintf(w, "%s and %s have the same shared MACs on %s.\n", c.Here, c.There, plural(int64(c.Ports), "port"))
	} else {
		fmt.Fprintf(w, "%s and %s DO NOT have the same shared MACs: both can become active, and traffic can get lost.\n", c.Here, c.There)
	}
	if len(c.Differences) == 0 {
		fmt.Fprintln(w, "Their hardware is the same.")
		return
	}
	fmt.Fprintln(w)
	table(w, "EFFECT|PORT|WHAT|"+strings.ReplaceAll(c.Here, "|", "")+"|"+strings.ReplaceAll(c.There, "|", ""), func(row func(...any)) {
		for _, d := range c.Differences {
			row(effects[d.Effect], d.Interface, d.What, d.Here, d.There)
		}
	})
	said := map[string]bool{}
	for _, d := range c.Differences {
		if d.Remedy == "" || d.Effect == hardware.Note || said[d.Interface+d.Remedy] {
			continue
		}
		said[d.Interface+d.Remedy] = true
		fmt.Fprintf(w, "\n%s: %s.\n", strings.TrimSpace(d.Interface+" "+d.What), d.Remedy)
	}
}
