package console

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// looking are the commands that only show something. All others are logged, with who gave them.
var looking = []string{
	"help", "exit", "version", "ha", "cluster", "cluster state", "cluster interfaces", "cluster device", "cluster device list", "cluster interface", "cluster lock",
	"cluster explain", "cluster verify", "cluster failovers", "cluster events", "cluster priority", "ifstat", "interface", "license", "hardware", "hardware diff",
	"board", "board list", "board show", "board check", "board schema", "conn", "conn diff", "sync", "routes", "traffic", "traffic compare", "log",
	"upgrade", "upgrade status", "secureboot", "secureboot status", "tpm", "tpm status", "policy", "policy status", "policy history", "policy file", "policy unsynced",
	"policy check", "policy diff", "policy explain", "policy rules", "policy schema", "node", "node show", "node check", "service", "service list",
	"ssh", "ssh status", "ssh key", "ssh key list", "api", "api status", "api certificate", "api token", "api token list", "techsupport",
}

// flagged are commands of looking that change something with one of these flags.
var flagged = map[string][]string{"ha": {"activate", "deactivate"}, "techsupport": {"usb"}}

// maxAudit bounds what is logged of a line, in bytes.
const maxAudit = 400

// changes reports whether a command that was found may change something.
func changes(cmd *cobra.Command, rest []string) bool {
	path := strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name())
	path = strings.TrimPrefix(path, " ")
	if path == "" || !slices.Contains(looking, path) {
		return path != ""
	}
	for _, a := range rest {
		name, _, _ := strings.Cut(strings.TrimLeft(a, "-"), "=")
		if strings.HasPrefix(a, "-") && slices.Contains(flagged[path], name) {
			return true
		}
	}
	return path == "cluster priority" && len(rest) > 1
}

// audit tells opts.Audit of a command that changes something, before it begins. The result is called with how it ended.
func audit(opts Options, root *cobra.Command, args []string) func(*error) {
	nothing := func(*error) {}
	if opts.Audit == nil {
		return nothing
	}
	cmd, rest, err := root.Find(args)
	if err != nil || cmd == root || !changes(cmd, rest) || slices.Contains(rest, "--help") || slices.Contains(rest, "-h") {
		return nothing
	}
	line := strings.Join(args, " ")
	if len(line) > maxAudit {
		line = line[:maxAudit] + "…"
	}
	line = fmt.Sprintf("%q", line)
	opts.Audit(line)
	return func(err *error) {
		switch {
		case errors.Is(*err, context.Canceled):
			opts.Audit(line + " was cancelled")
		case *err != nil:
			text, _, _ := strings.Cut((*err).Error(), "\n")
			opts.Audit(fmt.Sprintf("%s failed: %.200q", line, text))
		}
	}
}

// Command runs one line of somebody who has logged in over the network, and returns its error. Commands read from
// standard input what they ask for.
func Command(ctx context.Context, line string, opts Options) (err error) {
	args, err := split(line)
	if err != nil {
		return err
	}
	root := NewCommand(opts)
	if len(args) == 0 {
		args = []string{"help"}
	}
	args = Normalize(root, args)
	root.SetArgs(args)
	defer audit(opts, root, args)(&err)
	return root.ExecuteContext(ctx)
}
