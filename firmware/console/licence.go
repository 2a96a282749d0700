package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/license"
)

func (s *session) licenseCommand() *cobra.Command {
	cmd := get(s, &cobra.Command{Use: "license", Short: "Show the licence of this device, and what it lets it do"},
		func(c *api.Client, ctx context.Context) (api.LicenceStatus, error) { return c.Licence(ctx) }, writeLicence)
	cmd.AddCommand(s.licenseInstallCommand(), s.licenseRemoveCommand(),
		s.order(&cobra.Command{Use: "contact", Short: "Ask the licence server now", Args: cobra.NoArgs},
			func(c *api.Client, ctx context.Context, _ []string) (string, error) {
				return c.ContactLicenceServer(ctx)
			}))
	return cmd
}

func (s *session) licenseInstallCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "install [FILE]", Short: "Install a licence from a file, or pasted", Args: cobra.MaximumNArgs(1),
		Long: "Install replaces the licence of this device. A licence whose signature is bad, or that would mean lockdown, is refused\n" +
			"and nothing changes. Without FILE, or with -, paste the licence; its last line, SIGNATURE, ends it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			var file []byte
			var err error
			if len(args) == 1 && args[0] != "-" {
				file, err = readLicence(args[0])
			} else {
				file, err = s.pasteLicence(cmd)
			}
			if err != nil {
				return err
			}
			status, err := s.client().InstallLicence(cmd.Context(), file, force)
			if err != nil {
				return err
			}
			return s.licenceChanged(cmd, status, "The licence is installed.")
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "even if it means lockdown")
	return cmd
}

func (s *session) licenseRemoveCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "remove", Short: "Take the licence out and go back to the demo", Args: cobra.NoArgs,
		Long: "Remove takes the licence out. What is left of the demo of two hours begins; when it is used, this device goes into lockdown.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, err := s.client().RemoveLicence(cmd.Context(), force)
			if err != nil {
				return err
			}
			return s.licenceChanged(cmd, status, "The licence is removed.")
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "even if service ends by that")
	return cmd
}

func (s *session) licenceChanged(cmd *cobra.Command, status api.LicenceStatus, message string) error {
	return show(cmd, s, status, func(w io.Writer, st api.LicenceStatus) {
		fmt.Fprintf(w, "%s\n\n", message)
		writeLicence(w, st)
	})
}

// readLicence refuses what is too large to be one before it is in memory.
func readLicence(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, license.MaxSize+1))
}

// pasteLicence reads lines up to the signature.
func (s *session) pasteLicence(cmd *cobra.Command) ([]byte, error) {
	fmt.Fprintf(cmd.ErrOrStderr(), "Paste the licence; a line with a single %q or Ctrl-C leaves things as they are.\n", endOfFile)
	var file strings.Builder
	for {
		line, err := s.readLine("")
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("nothing was changed: %w", err)
		}
		if cmd.Context().Err() != nil {
			return nil, cmd.Context().Err()
		}
		file.WriteString(line + "\n")
		switch {
		case strings.HasPrefix(line, "SIGNATURE "):
			return []byte(file.String()), nil
		case err != nil || line == endOfFile || file.Len() > license.MaxSize:
			return nil, errors.New("nothing was changed: that was no licence, it ends with a line SIGNATURE …")
		}
	}
}

func writeLicence(w io.Writer, s api.LicenceStatus) {
	state := strings.ToUpper(s.State)
	if s.Remaining > 0 {
		state += ", " + long(time.Duration(s.Remaining)) + " left"
	}
	pairs := [][2]string{{"State", state}, {"Reason", s.Reason}, {"To leave", s.Leave}}
	if l := s.Licence; l != nil {
		id := l.ID
		if s.Fault != "" {
			id += " (not valid)"
		}
		pairs = append(pairs, [2]string{"Licence", id}, [2]string{"Owner", l.Owner}, [2]string{"Bound to", l.MAC},
			[2]string{"Interface", registrationPort(s)}, [2]string{"Term", termOf(l)}, [2]string{"Limits", limits(l.Limit)}, [2]string{"Key", key(s)})
		if c := s.Contact; c != nil {
			pairs = append(pairs, [2]string{"Server", fmt.Sprintf("%s, last reached %s ago, grace %d days", c.Server, long(time.Duration(c.Last)), l.GraceDays)},
				[2]string{"Contact", c.Error})
		}
	}
	if s.Lab {
		pairs = append(pairs, [2]string{"Firmware", "built for the lab: it believes the development key, which everybody has"})
	}
	if len(s.Keys) == 0 {
		pairs = append(pairs, [2]string{"Firmware", "built without a licence key: it believes no licence"})
	}
	for _, warning := range s.Warnings {
		pairs = append(pairs, [2]string{"Warning", warning})
	}
	for _, p := range pairs {
		if p[1] != "" {
			fmt.Fprintf(w, "%-10s %s\n", p[0]+":", p[1])
		}
	}
}

func registrationPort(s api.LicenceStatus) string {
	p := s.Registration
	switch {
	case p == nil:
		return "none has this MAC"
	case !p.Present:
		return p.Name + ", missing"
	case p.MAC != s.Licence.MAC:
		return fmt.Sprintf("%s, does not match: %s", p.Name, p.MAC)
	case !p.Up:
		return p.Name + ", matches, disabled"
	}
	return p.Name + ", matches"
}

func termOf(l *license.Licence) string {
	if l.Until.IsZero() {
		return fmt.Sprintf("from %s, without end", l.From)
	}
	return fmt.Sprintf("from %s until %s", l.From, l.Until)
}

func limits(l license.Limits) string {
	var out []string
	if l.Members > 0 {
		out = append(out, plural(l.Members, "member"))
	}
	if l.Interfaces > 0 {
		out = append(out, plural(l.Interfaces, "interface"))
	}
	if l.Throughput > 0 {
		out = append(out, speed(l.Throughput))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ") + " (shown, not enforced)"
}

func key(s api.LicenceStatus) string {
	if s.Key == license.DevelopmentKeyID {
		return s.Key + ", the development key"
	}
	return s.Key
}

// lockedDown says why a device is in lockdown and how to leave it, unasked; it says nothing else.
func lockedDown(w io.Writer, s api.LicenceStatus) {
	if s.State != license.Lockdown.String() {
		return
	}
	fmt.Fprintf(w, "\nLOCKDOWN: only management traffic passes this device.\nReason:   %s\nTo leave: %s\n", s.Reason, s.Leave)
}

func (s *session) interfaceCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "interface", Short: "Take interfaces out and put them back", Args: cobra.NoArgs}
	var o api.InterfaceOrder
	disable := s.order(&cobra.Command{
		Use: "disable NAME", Short: "Take an interface out until the next restart", Args: cobra.ExactArgs(1), ValidArgsFunction: s.completeInterfaces,
		Long: "Disable sets an interface down and keeps it down. In a cluster that makes this device unfit, as a pulled cable does. Without the\n" +
			"registration interface, to which the licence is bound, it goes into lockdown; that needs --force.",
		Example: "  interface disable G4\n  interface disable G4 --persist",
	}, func(c *api.Client, ctx context.Context, args []string) (string, error) {
		return c.DisableInterface(ctx, args[0], o)
	})
	disable.Flags().BoolVar(&o.Force, "force", false, "even if it means lockdown")
	disable.Flags().BoolVar(&o.Persist, "persist", false, "also after a restart")
	enable := s.order(&cobra.Command{
		Use: "enable NAME", Short: "Put a disabled interface back", Args: cobra.ExactArgs(1), ValidArgsFunction: s.completeInterfaces,
	}, func(c *api.Client, ctx context.Context, args []string) (string, error) {
		return c.EnableInterface(ctx, args[0])
	})
	cmd.AddCommand(disable, enable)
	return cmd
}

func (s *session) completeInterfaces(cmd *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, _ := s.client().Interfaces(cmd.Context()) // without an answer there is nothing to offer
	for _, i := range list {
		names = append(names, i.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
