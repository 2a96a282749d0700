package console

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/node"
)

func (s *session) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Show and change the node file, the configuration of this device", Args: cobra.NoArgs}
	cmd.AddCommand(
		&cobra.Command{
			Use: "show", Short: "Show the node file and whether it is in force", Args: cobra.NoArgs, RunE: s.nodeShow,
		},
		&cobra.Command{
			Use: "check [file]", Short: "Check the node file, or another one, and change nothing", Args: cobra.MaximumNArgs(1), RunE: s.nodeCheck,
		},
		&cobra.Command{
			Use: "edit", Short: "Paste a new node file; a good one is saved and applied", Args: cobra.NoArgs, RunE: s.nodeEdit,
		},
		&cobra.Command{
			Use: "reload", Short: "Read the node file again and apply it", Args: cobra.NoArgs, RunE: s.nodeReload,
		},
	)
	return cmd
}

func (s *session) nodeShow(cmd *cobra.Command, _ []string) error {
	c, ctx := s.client(), cmd.Context()
	status, err := c.Node(ctx)
	if err != nil {
		return err
	}
	if s.json {
		return show(cmd, s, status, nil)
	}
	file, err := c.NodeFile(ctx)
	if err != nil && len(status.Errors) == 0 {
		return err
	}
	writeNode(cmd.OutOrStdout(), status, file)
	return nil
}

// writeNode gives the state as YAML comments and the file below, so that all of it can be pasted into node edit.
func writeNode(w io.Writer, s api.NodeStatus, file []byte) {
	var state strings.Builder
	writeNodeStatus(&state, s, file)
	for line := range strings.Lines(state.String()) {
		fmt.Fprintf(w, "# %s", line)
	}
	w.Write(file)
	if len(file) > 0 && file[len(file)-1] != '\n' {
		fmt.Fprintln(w)
	}
}

func writeNodeStatus(w io.Writer, s api.NodeStatus, file []byte) {
	switch {
	case len(s.Errors) > 0 && s.Running:
		fmt.Fprintf(w, "%s is bad and not in force; what ran before goes on.\n", s.File)
	case len(s.Errors) > 0:
		fmt.Fprintf(w, "%s is bad and not in force; nothing is forwarded.\n", s.File)
	case !s.Applied:
		fmt.Fprintf(w, "%s is good and not in force.\n", s.File)
	default:
		fmt.Fprintf(w, "%s is in force.\n", s.File)
	}
	if s.Policy != "" {
		fmt.Fprintf(w, "This device runs by %s: of this file its identity, key and devices count.\n", s.Policy)
	}
	writeProblems(w, s.Errors, file)
	for _, p := range s.Warnings {
		fmt.Fprintf(w, "warning: %s\n", oneLine(p))
	}
	for _, m := range s.Missing {
		fmt.Fprintf(w, "missing: interface %s has no NIC (device %s)\n", m.Name, m.Device)
	}
	for _, p := range s.Problems {
		fmt.Fprintf(w, "problem: %s\n", strings.ReplaceAll(p, "\n", "; "))
	}
}

// writeProblems shows every fault with its line of the file and what to do.
func writeProblems(w io.Writer, problems []node.Problem, file []byte) {
	for _, p := range problems {
		if p.Line > 0 {
			fmt.Fprintf(w, "line %d, column %d: ", p.Line, p.Column)
		}
		if p.Path != "" {
			fmt.Fprintf(w, "%s: ", p.Path)
		}
		fmt.Fprintln(w, p.Message)
		for line := range strings.Lines(p.Excerpt(file)) {
			fmt.Fprint(w, "    "+line)
		}
		if p.Hint != "" {
			fmt.Fprintf(w, "    hint: %s\n", p.Hint)
		}
	}
}

func oneLine(p node.Problem) string {
	text := p.Message
	if p.Path != "" {
		text = p.Path + ": " + text
	}
	if p.Line > 0 {
		text = fmt.Sprintf("line %d: %s", p.Line, text)
	}
	if p.Hint != "" {
		text += " (" + p.Hint + ")"
	}
	return text
}

// explain shows the faults in err, if it has any, against the file they are about, and gives what is left to say.
func explain(cmd *cobra.Command, err error, file []byte) error {
	var e *api.Error
	if !errors.As(err, &e) || len(e.Problems) == 0 {
		return err
	}
	writeProblems(cmd.ErrOrStderr(), e.Problems, file)
	short := *e
	short.Problems = nil
	return &short
}

func (s *session) nodeCheck(cmd *cobra.Command, args []string) error {
	c, ctx := s.client(), cmd.Context()
	var file []byte
	var err error
	switch {
	case len(args) == 0:
		file, err = c.NodeFile(ctx)
	case args[0] == "-":
		file, err = io.ReadAll(cmd.InOrStdin())
	default:
		file, err = os.ReadFile(args[0])
	}
	if err != nil {
		return err
	}
	status, err := c.CheckNode(ctx, file)
	if err != nil {
		if s.json {
			printJSONError(cmd, err)
		}
		return explain(cmd, err, file)
	}
	return show(cmd, s, status, func(w io.Writer, st api.NodeStatus) {
		for _, p := range st.Warnings {
			fmt.Fprintf(w, "warning: %s\n", oneLine(p))
		}
		fmt.Fprintln(w, "The node file is good.")
	})
}

// printJSONError gives a script the faults in a form it can read.
func printJSONError(cmd *cobra.Command, err error) {
	var e *api.Error
	if errors.As(err, &e) {
		printJSON(cmd.OutOrStdout(), e)
	}
}

// endOfFile ends a pasted file, as in mail(1).
const endOfFile = "."

func (s *session) nodeEdit(cmd *cobra.Command, _ []string) error {
	c, ctx := s.client(), cmd.Context()
	fmt.Fprintf(cmd.ErrOrStderr(), "Paste the whole node file and end it with a line that has a single %q; Ctrl-C leaves things as they are.\n", endOfFile)
	var file strings.Builder
	for {
		line, err := s.readLine("")
		if errors.Is(err, io.EOF) && file.Len() > 0 && !s.interactive {
			break // a file piped in needs no dot
		}
		if err != nil {
			return fmt.Errorf("nothing was changed: %w", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if line == endOfFile {
			break
		}
		if file.Len() > node.MaxSize {
			return fmt.Errorf("nothing was changed: the file has more than %d bytes", node.MaxSize)
		}
		file.WriteString(line + "\n")
	}
	status, err := c.PutNode(ctx, []byte(file.String()))
	if err != nil {
		return explain(cmd, err, []byte(file.String()))
	}
	return s.applied(cmd, status, "The node file is saved and in force.")
}

func (s *session) nodeReload(cmd *cobra.Command, _ []string) error {
	c, ctx := s.client(), cmd.Context()
	status, err := c.ReloadNode(ctx)
	if err != nil {
		file, _ := c.NodeFile(ctx) // without it the faults have no source line
		return explain(cmd, err, file)
	}
	return s.applied(cmd, status, "The node file is in force.")
}

// applied passes the new file on to had, and tells what came of it.
func (s *session) applied(cmd *cobra.Command, status api.NodeStatus, message string) error {
	cluster, err := "", error(nil)
	if status.Cluster != "" && status.Policy == "" { // by a policy, gatewayd tells had when that has to know
		cluster, err = s.client().ReloadHA(cmd.Context())
	}
	if showErr := show(cmd, s, status, func(w io.Writer, st api.NodeStatus) {
		if !st.Applied {
			message = "The node file is saved, but not in force."
		}
		fmt.Fprintln(w, message)
		st.Errors = nil
		var rest strings.Builder
		writeNodeStatus(&rest, st, nil)
		_, details, _ := strings.Cut(rest.String(), "\n")
		io.WriteString(w, details)
		if cluster != "" {
			fmt.Fprintf(w, "had: %s\n", cluster)
		}
	}); showErr != nil {
		return showErr
	}
	return err
}
