package fleet

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/policy/registry"
)

// Command is "simulate".
func Command() *cobra.Command {
	var o options
	var settings, operator string
	c := &cobra.Command{
		Use: "simulate", Short: "Let thousands of gateways poll a server, and print what that costs it",
		Long: "Starts a server of its own in a temporary directory, in a process of its own, unless --settings names the manager.yaml of\n" +
			"another one. Every gateway is a client as on the box, with connections of its own.",
		Example: "  twinkeep-manager simulate --gateways 10000 --for 60s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if settings != "" {
				if o.config, err = registry.LoadConfig(settings); err != nil {
					return err
				}
				o.operator = operator
			} else {
				stop, err := o.own()
				if err != nil {
					return err
				}
				defer stop()
			}
			return (&simulation{options: o}).run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := c.Flags()
	f.IntVar(&o.gateways, "gateways", 10000, "number of gateways")
	f.DurationVar(&o.interval, "interval", time.Minute, "time between two polls of one gateway")
	f.DurationVar(&o.length, "for", time.Minute, "length of each of the two phases")
	f.IntVar(&o.size, "size", 64<<10, "bytes of the policy document")
	f.StringVar(&settings, "settings", "", "manager.yaml of a server that runs already")
	f.StringVar(&operator, "operator-token", "", "token that may publish, with --settings")
	return c
}

var tokens = regexp.MustCompile(`(?m)^(?:# )?token: (\S+)`)

// own starts a server for this run.
func (o *options) own() (stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "twinkeep-fleet")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "serve", "--dir", dir, "--listen", "127.0.0.1:0")
	stop = func() {
		if cmd.Process != nil {
			cmd.Process.Signal(syscall.SIGTERM)
			cmd.Wait()
		}
		os.RemoveAll(dir)
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	welcome, err := os.Create(filepath.Join(dir, "welcome"))
	if err != nil {
		return nil, err
	}
	defer welcome.Close()
	cmd.Stdout = welcome
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	o.pid = cmd.Process.Pid
	lines := bufio.NewScanner(log)
	for lines.Scan() && o.config.Address == "" {
		if _, rest, ok := strings.Cut(lines.Text(), "msg=serving address="); ok {
			o.config.Address, _, _ = strings.Cut(rest, " ")
			break
		}
		fmt.Fprintln(os.Stderr, lines.Text())
	}
	if o.config.Address == "" {
		return nil, fmt.Errorf("the server did not start")
	}
	go io.Copy(io.Discard, log)
	text, err := os.ReadFile(welcome.Name())
	if err != nil {
		return nil, err
	}
	found := tokens.FindAllSubmatch(text, -1)
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil || len(found) != 2 {
		return nil, fmt.Errorf("the server's first output has no tokens: %w", err)
	}
	o.config.Repository, o.config.CA, o.config.Token = "policies/fleet", string(ca), string(found[0][1])
	o.operator = string(found[1][1])
	return stop, nil
}
