package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/console"
	"github.com/twinkeep/twinkeep/firmware/journal"
	"github.com/twinkeep/twinkeep/firmware/sshd"
)

func sshdCommand(d *dirs) *cobra.Command {
	c := &cobra.Command{
		Use: "sshd", Short: "Run the daemon of the console over the network", Args: cobra.NoArgs, Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			ctx, cancel := stopping()
			defer cancel()
			return sshd.Run(ctx, sshd.Options{ConfigDir: d.config, StateDir: d.state, RunDir: d.run, Program: self, Ready: ready, Log: journal.New(os.Stderr)})
		},
	}
	d.flags(c)
	return c
}

// sshdFrontCommand is the process of sshd that speaks with the network.
func sshdFrontCommand() *cobra.Command {
	return &cobra.Command{
		Use: sshd.FrontCommand + " ROOT", Short: "Speak SSH for sshd", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error { return sshd.Front(args[0]) },
	}
}

// cliCommand is the interactive console, on a serial line, in a terminal, or of somebody who has logged in over the network.
func cliCommand(d *dirs) *cobra.Command {
	var failsafe bool
	var operator, source, line string
	auditFD := -1
	c := &cobra.Command{
		Use: "cli", Short: "Open the interactive console", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o := console.Options{Run: d.run, Version: version, ConfigDir: d.config, Failsafe: failsafe, Operator: operator}
			o.Source, _ = netip.ParseAddrPort(source) // without it nothing is known of the connection
			// Ctrl-C belongs to the command that runs inside the console, so not to this context. It ends with the terminal, or with
			// the box: a command that runs is cancelled, and the terminal is as it was.
			ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGHUP, syscall.SIGTERM)
			defer cancel()
			if operator == "" {
				return console.Interactive(ctx, os.Stdin, os.Stdout, o)
			}
			if auditFD > 2 {
				unix.CloseOnExec(auditFD)
				log := journal.New(os.NewFile(uintptr(auditFD), "audit")).With(slog.String("operator", operator))
				o.Audit = func(text string) { log.Info("command", "line", text) }
			}
			// A terminal that hangs up ends the command that runs, in order.
			if c.Flag(sshd.CommandFlag).Changed {
				ctx, cancel := signal.NotifyContext(c.Context(), syscall.SIGHUP)
				defer cancel()
				return console.Command(ctx, line, o)
			}
			return console.Interactive(ctx, os.Stdin, os.Stdout, o)
		},
	}
	c.Flags().StringVar(&d.config, "config", "", "directory of node file and password: ask for the password, and begin the first setup where there is no node file")
	c.Flags().BoolVar(&failsafe, "failsafe", false, "no daemon runs")
	c.Flags().StringVar(&operator, sshd.OperatorFlag, "", "who has logged in")
	c.Flags().StringVar(&source, sshd.SourceFlag, "", "where his connection comes from")
	c.Flags().StringVar(&line, sshd.CommandFlag, "", "run this line")
	c.Flags().IntVar(&auditFD, sshd.AuditFlag, -1, "descriptor for the log")
	for _, name := range []string{sshd.OperatorFlag, sshd.SourceFlag, sshd.CommandFlag, sshd.AuditFlag} {
		c.Flags().MarkHidden(name)
	}
	return c
}
