// Command lab runs virtual gateways on this machine, without root: an Ethernet switch in user space, QEMU, and
// an agent in every machine.
//
//	go run ./tools/lab up            two gateways, a LAN host and a WAN server, in the background
//	go run ./tools/lab demo          the same, and the power of the active gateway is cut; measures and checks
//	go run ./tools/lab demo --keep   the demo, but the machines keep running
//	go run ./tools/lab scenarios     further stories in one lab; judged from the captures (names choose)
//	go run ./tools/lab status        what runs
//	go run ./tools/lab console a     serial console of a machine (a, b, host, server); Ctrl-] leaves
//	go run ./tools/lab cut a         power cut of a machine
//	go run ./tools/lab stop          end the lab
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/tools/lab/scenario"
)

const usage = `usage: lab COMMAND [flags]

  up               two gateways (a, b), a LAN host (host) and a WAN server (server), in the background
  demo [--keep]    start the same, cut the power of the active gateway, measure and check; --keep leaves it running
  scenarios [NAME...]  further stories, one after another in one lab, judged from the captures; see --list
  status           what runs
  console MACHINE  serial console; Ctrl-] leaves; standard input may be a pipe
  cut MACHINE      power cut (SIGKILL of its QEMU)
  stop             end the lab

Flags of every command: --dir (build/demo; scenarios: build/scenarios); of up, demo and scenarios also --image (build/image), --cmdline, --seed.
TWINKEEP_ACCEL=kvm|tcg overrides the choice of the accelerator.
`

// errFailed ends the command with status 1 when everything has been said already.
var errFailed = errors.New("failed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "lab: interrupted")
	case !errors.Is(err, errFailed):
		fmt.Fprintln(os.Stderr, "lab:", err)
	}
	stop()
	os.Exit(1)
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errFailed
	}
	var o options
	fs := flag.NewFlagSet("lab "+args[0], flag.ContinueOnError)
	fs.StringVar(&o.dir, "dir", "build/demo", "`folder` for state, console logs and captures; relative to the module")
	var command func(context.Context, options) error
	machine, list, then := false, false, ""
	switch args[0] {
	case "up", "demo", "scenarios":
		fs.StringVar(&o.image, "image", "build/image", "`folder` with vmlinux or vmlinuz, and initramfs.cpio; relative to the module")
		fs.StringVar(&o.cmdline, "cmdline", "", "added to the kernel command line of every machine")
		fs.Uint64Var(&o.seed, "seed", 1, "of the switches' random choices")
		fs.BoolVar(&o.child, "child", false, "run in the background (the lab starts itself so)")
		o.demo = args[0] == "demo"
		o.scenarios = args[0] == "scenarios"
		o.keep = !o.demo && !o.scenarios
		if o.demo {
			fs.BoolVar(&o.keep, "keep", false, "leave the machines running")
			fs.StringVar(&then, "then", "", "`stories` to tell afterwards in the same lab, with commas between them; see scenarios --list")
		}
		if o.scenarios {
			fs.BoolVar(&list, "list", false, "list the stories")
			if f := fs.Lookup("dir"); f != nil {
				o.dir, f.DefValue = "build/scenarios", "build/scenarios"
			}
		}
		command = start
	case "status":
		command = status
	case "stop":
		command = stopLab
	case "console":
		command, machine = console, true
	case "cut":
		command, machine = cut, true
	case "help", "-h", "--help":
		fmt.Print(usage)
		return nil
	default:
		return fmt.Errorf("unknown command %q\n%s", args[0], usage)
	}
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	if list {
		for _, s := range scenario.Stories {
			fmt.Printf("%-10s %s\n           %s\n", s.Name, s.Title, s.Expected)
		}
		return nil
	}
	rest := fs.Args()
	if o.scenarios {
		o.stories, rest = rest, nil
	} else if then != "" {
		o.stories = strings.Split(then, ",")
	}
	if _, err := scenario.Select(o.stories); err != nil {
		return err
	}
	if machine {
		if len(rest) == 0 {
			return fmt.Errorf("%s: name a machine: a, b, host or server", args[0])
		}
		o.machine, rest = rest[0], rest[1:]
	}
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q (flags come before arguments)", rest[0])
	}
	if err := o.resolve(); err != nil {
		return err
	}
	return command(ctx, o)
}
