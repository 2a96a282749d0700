package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/gatewayd"
	"github.com/twinkeep/twinkeep/firmware/had"
	"github.com/twinkeep/twinkeep/firmware/journal"
	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/firmware/statesyncd"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/init/supervise"
)

// dirs are the directories of a member.
type dirs struct{ config, state, run string }

// flags adds the directories to a command. --run is everybody's, so the root has it.
func (d *dirs) flags(c *cobra.Command) {
	c.Flags().StringVar(&d.config, "config", "/etc/twinkeep", "directory of the node file")
	c.Flags().StringVar(&d.state, "state", "/data", "directory of what survives a restart")
}

// args names the directories for a child.
func (d *dirs) args() []string {
	return []string{"--config", d.config, "--state", d.state, "--run", d.run}
}

// stopping is a context that ends with SIGTERM or SIGINT.
func stopping() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
}

// ready tells the supervisor, if there is one.
func ready() {
	if err := supervise.NotifyReady(); err != nil {
		slog.Warn("cannot tell the supervisor that this service is ready", "err", err)
	}
}

func gatewaydCommand(d *dirs) *cobra.Command {
	c := &cobra.Command{
		Use: "gatewayd", Short: "Run the daemon of addresses, routes, ruleset and the box's API", Args: cobra.NoArgs, Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := stopping()
			defer cancel()
			return gatewayd.Run(ctx, gatewayd.Options{ConfigDir: d.config, StateDir: d.state, RunDir: d.run, Ready: ready})
		},
	}
	d.flags(c)
	return c
}

func hadCommand(d *dirs) *cobra.Command {
	c := &cobra.Command{
		Use: "had", Short: "Run the daemon of heartbeats, roles and the gate", Args: cobra.NoArgs, Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			queue := journal.NewQueue(os.Stderr)
			defer queue.Close()
			log := journal.New(queue)
			if err := realTime(); err != nil {
				log.Warn("not running in real time; a busy machine can cost this member its role", "err", err)
			}
			if err := supervise.HoldLife(); err != nil {
				log.Warn("the supervisor will notice the end of this process late", "err", err)
			}
			ctx, cancel := stopping()
			defer cancel()
			return had.Run(ctx, had.Options{ConfigDir: d.config, StateDir: d.state, RunDir: d.run, Ready: ready, Log: log, StateSync: true})
		},
	}
	d.flags(c)
	return c
}

func statesyncdCommand(d *dirs) *cobra.Command {
	c := &cobra.Command{
		Use: "statesyncd", Short: "Run the daemon that replicates connections", Args: cobra.NoArgs, Hidden: true,
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := stopping()
			defer cancel()
			return statesyncd.Run(ctx, statesyncd.Options{ConfigDir: d.config, RunDir: d.run, Ready: ready, Log: journal.New(os.Stderr)})
		},
	}
	d.flags(c)
	return c
}

// witnessCommand is a witness as one ordinary process, on a host that is no gateway.
func witnessCommand(d *dirs) *cobra.Command {
	c := &cobra.Command{
		Use:   "witness",
		Short: "Run a witness, which only judges, in the foreground",
		Long: "Witness gives a cluster its vote, so that a pair has a majority when one of them fails. It forwards nothing and changes\n" +
			"nothing on its host. Its node file has cluster.member 9, 10 or 11; with an address in cluster.witnesses it takes heartbeats\n" +
			"over routers, on UDP port 999, and needs no interface. Ask it with: twinkeep --run DIR ha.",
		Example: "  twinkeep witness --config ./node.yaml --state ./state --run ./run",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			queue := journal.NewQueue(os.Stderr)
			defer queue.Close()
			o := had.Options{ConfigDir: d.config, StateDir: d.state, RunDir: d.run, Log: journal.New(queue)}
			load := node.Load
			if info, err := os.Stat(d.config); err == nil && info.Mode().IsRegular() {
				o.NodeFile, load = d.config, node.LoadFile
			}
			n, _, err := load(d.config)
			if err != nil {
				return err
			}
			if n.Cluster == nil || !n.Cluster.Judges() {
				return errors.New("this is not the node file of a witness: cluster.member is none of 9, 10, 11")
			}
			if err := realTime(); err != nil {
				o.Log.Warn("not running in real time; a busy machine can cost the cluster this vote", "err", err)
			}
			ctx, cancel := stopping()
			defer cancel()
			return had.Run(ctx, o)
		},
	}
	d.flags(c)
	c.Flag("config").Usage = "node file, or its directory"
	return c
}

// runCommand is a whole member as ordinary processes, for namespaces and containers.
func runCommand(d *dirs) *cobra.Command {
	var slots, healthy string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run a whole member in the foreground, in this network namespace",
		Long: "Run supervises all processes of one member, as PID 1 does on the appliance, in the network namespace it is started in.\n" +
			"SIGTERM stops them in order: the member says farewell and its peer takes over at once.",
		Example: "  ip netns exec gw-a twinkeep run --config ./a --state ./a/state --run ./a/run",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			for _, p := range []*string{&d.config, &d.state, &d.run} {
				if *p, err = filepath.Abs(*p); err != nil {
					return err
				}
			}
			for _, p := range []string{d.state, d.run} {
				if err := os.MkdirAll(p, 0o755); err != nil {
					return err
				}
			}
			var more []supervise.Service
			if slots != "" {
				more = append(more, supervise.Service{Name: "upgraded", After: []string{"had"}, ReadyTimeout: 30 * time.Second,
					Argv: append([]string{self, "upgraded", "--" + slotsFlag, slots, "--healthy", healthy}, d.args()...)})
			}
			return supervised(d, self, more...)
		},
	}
	d.flags(c)
	// For tests of upgrades: whoever starts this command again after it has ended is the boot loader.
	c.Flags().StringVar(&slots, slotsFlag, "", "folder that stands for the slots of a device")
	c.Flags().StringVar(&healthy, "healthy", "1m", "how long this member must be healthy before an image on trial is kept")
	c.Flags().MarkHidden(slotsFlag)
	c.Flags().MarkHidden("healthy")
	return c
}

func supervised(d *dirs, self string, more ...supervise.Service) error {
	ctx, cancel := stopping()
	defer cancel()
	j := supervise.NewJournal(0, 0)
	farewell := func() {
		if err := member.Farewell(d.run); err != nil {
			j.Appendf("run", "farewell for had: %v", err)
		}
	}
	go j.Mirror(context.Background(), 0, os.Stderr)
	s, err := supervise.New(supervise.Config{
		Name: "run", RunDir: d.run, Journal: j,
		Shutdown: func(supervise.Action) error { cancel(); return nil },
		Services: append([]supervise.Service{
			{Name: "gatewayd", Argv: append([]string{self, "gatewayd"}, d.args()...), ReadyTimeout: 30 * time.Second, Critical: true},
			{Name: "had", Argv: append([]string{self, "had"}, d.args()...), After: []string{"gatewayd"}, ReadyTimeout: 30 * time.Second,
				StopTimeout: 2 * time.Second, Critical: true, OnDying: farewell, OnExit: func(context.Context, supervise.ExitStatus) { farewell() }},
			{Name: "statesyncd", Argv: append([]string{self, "statesyncd"}, d.args()...), After: []string{"had"}, ReadyTimeout: 30 * time.Second},
			{Name: "sshd", Argv: append([]string{self, "sshd"}, d.args()...), After: []string{"gatewayd"}, StopTimeout: time.Second},
			{Name: "apid", Argv: append([]string{self, "apid"}, d.args()...), After: []string{"gatewayd"}, StopTimeout: time.Second},
		}, more...),
	})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}
