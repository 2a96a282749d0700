package console

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp"
)

// DefaultRun is where a member has its sockets.
const DefaultRun = "/run/twinkeep"

// Options of the command tree.
type Options struct {
	Run      string        // directory of the sockets; DefaultRun when empty, --run overrides it
	Version  string        // what the command version shows
	Patience time.Duration // how long the interactive console waits for the daemons before its first prompt; 0 means 15 s
	// ConfigDir has the node file and the password. The interactive console asks for the password, and begins the first setup, only
	// when it is given.
	ConfigDir string
	Failsafe  bool     // no daemon runs: the device was started by the failsafe entry of its boot menu
	Shell     []string // what the command shell runs; /bin/gosh or $SHELL when empty
	// Operator is who has logged in over the network: no password is asked for, and there is no shell. Empty on a serial line.
	Operator string
	// Source is where the connection of an Operator comes from; zero on a serial line.
	Source netip.AddrPort
	// Idle is how long the interactive console waits for a command; 0: 30 minutes for an Operator, for ever on a serial line.
	Idle    time.Duration
	Secrets Secrets   // nil: the TPM and the vault of this device
	Slots   esp.Place // where the images are; the zero value is this box
	// Audit is told what an operator does that changes something; may be nil.
	Audit func(text string)
}

// session is what the commands of one tree share.
type session struct {
	Options
	json        bool
	interactive bool
	// readLine asks the operator for a line; io.EOF means that there will be no more.
	readLine func(prompt string) (string, error)
	// readPassword asks for a line that is not shown.
	readPassword func(prompt string) (string, error)
	// passwordSet is told that this operator has set the password; may be nil.
	passwordSet func()
	// life ends with the interactive console; nil elsewhere.
	life context.Context
	// foreground lends the terminal to another program.
	foreground func(func(in io.Reader, out io.Writer) error) error
}

// NewCommand makes the command tree for one use from a shell. Give it arguments that went through Normalize, and
// its error to PrintError.
func NewCommand(opts Options) *cobra.Command {
	s := &session{Options: opts, foreground: func(f func(io.Reader, io.Writer) error) error { return f(os.Stdin, os.Stdout) }}
	s.readPassword = readHidden
	root := s.root()
	lines := bufio.NewReader(nil)
	opened := false
	s.readLine = func(prompt string) (string, error) {
		if !opened {
			lines.Reset(root.InOrStdin())
			opened = true
		}
		fmt.Fprint(root.ErrOrStderr(), prompt)
		line, err := lines.ReadString('\n')
		if err != nil && line == "" {
			return "", err
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	return root
}

// readHidden asks the terminal of this process.
func readHidden(prompt string) (string, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return "", errors.New("a password is typed at a terminal")
	}
	fmt.Fprint(os.Stderr, prompt)
	b, err := term.ReadPassword(fd)
	fmt.Fprintln(os.Stderr)
	return string(b), err
}

func (s *session) root() *cobra.Command {
	if s.Run == "" {
		s.Run = DefaultRun
	}
	root := &cobra.Command{
		Use:           "twinkeep",
		Short:         "Console of a Twinkeep gateway",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&s.Run, "run", s.Run, "directory of the member's sockets")
	root.PersistentFlags().BoolVar(&s.json, "json", false, "print the answer as JSON")
	root.AddCommand(
		s.haCommand(), s.clusterCommand(), s.ifstatCommand(), s.boardCommand(), s.hardwareCommand(), s.connCommand(), s.syncCommand(), s.routesCommand(), s.rulesCommand(), s.trafficCommand(), s.logCommand(), s.sniffCommand(),
		s.interfaceCommand(), s.licenseCommand(), s.nodeCommand(), s.policyCommand(), s.serviceCommand(), s.shellCommand(), s.rebootCommand(), s.shutdownCommand(), s.versionCommand(),
		s.upgradeCommand(), s.secureBootCommand(), s.tpmCommand(), s.flashCommand(), s.factoryResetCommand(), s.setupCommand(), s.passwordCommand(), s.sshCommand(), s.apiCommand(), s.techsupportCommand(),
	)
	root.CompletionOptions.DisableDefaultCmd = s.interactive || s.Operator != ""
	if s.interactive {
		root.AddCommand(&cobra.Command{
			Use: "exit", Short: "Leave the console", Aliases: []string{"quit", "logout"}, Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return errExit },
		})
	}
	return root
}

// errExit ends the interactive console.
var errExit = errors.New("exit")

// client is made when a command runs: --run is known then.
func (s *session) client() *api.Client { return api.NewClient(s.Run) }

// show prints v with write, or as JSON.
func show[T any](cmd *cobra.Command, s *session, v T, write func(io.Writer, T)) error {
	w := bufio.NewWriter(cmd.OutOrStdout())
	if s.json {
		if err := printJSON(w, v); err != nil {
			return err
		}
	} else {
		write(w, v)
	}
	return w.Flush()
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// say prints one sentence that a daemon answered.
func (s *session) say(cmd *cobra.Command, message string) error {
	return show(cmd, s, api.Message{Message: message}, func(w io.Writer, m api.Message) { fmt.Fprintln(w, m.Message) })
}

// get makes a command that asks for one thing and shows it.
func get[T any](s *session, cmd *cobra.Command, ask func(*api.Client, context.Context) (T, error), write func(io.Writer, T)) *cobra.Command {
	if cmd.Args == nil {
		cmd.Args = cobra.NoArgs
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v, err := ask(s.client(), cmd.Context())
		if err != nil {
			return err
		}
		return show(cmd, s, v, write)
	}
	return cmd
}

// Normalize turns -word into --word where the command has a flag of that name, so that ha -activate works. Everything
// behind -- stays as it is.
func Normalize(root *cobra.Command, args []string) []string {
	out := append([]string(nil), args...)
	cmd := root
	for i, a := range out {
		switch {
		case a == "--":
			return out
		case !strings.HasPrefix(a, "-"):
			if sub := child(cmd, a); sub != nil {
				cmd = sub
			}
		case len(a) > 2 && !strings.HasPrefix(a, "--"):
			name, _, _ := strings.Cut(a[1:], "=")
			if flagOf(cmd, name) != nil {
				out[i] = "-" + a
			}
		}
	}
	return out
}

func child(cmd *cobra.Command, name string) *cobra.Command {
	for _, c := range cmd.Commands() {
		if c.Name() == name || c.HasAlias(name) {
			return c
		}
	}
	return nil
}

// flagOf finds a flag of the command or of those above it.
func flagOf(cmd *cobra.Command, name string) *pflag.Flag {
	if f := cmd.Flags().Lookup(name); f != nil {
		return f
	}
	for c := cmd; c != nil; c = c.Parent() {
		if f := c.PersistentFlags().Lookup(name); f != nil {
			return f
		}
	}
	return nil
}

// PrintError shows an error as an operator wants it: what is wrong, and on the next line what to do.
func PrintError(w io.Writer, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	var e *api.Error
	if !errors.As(err, &e) {
		fmt.Fprintf(w, "error: %v\n", err)
		return
	}
	fmt.Fprintf(w, "error: %s\n", e.Message)
	for _, p := range e.Problems {
		fmt.Fprintf(w, "  %s\n", p.Error())
	}
	if e.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", e.Hint)
	}
}
