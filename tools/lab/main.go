// Command lab runs virtual gateways on this machine, without root: an Ethernet switch in user space, QEMU, and
// an agent in every machine.
//
//	go run ./tools/lab up            two gateways, a LAN host and a WAN server, in the background
//	go run ./tools/lab demo          the same, and the power of the active gateway is cut; measures and checks
//	go run ./tools/lab demo --keep   the demo, but the machines keep running
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

	"golang.org/x/sys/unix"
)

const usage = `usage: lab COMMAND [flags]

  up               two gateways (a, b), a LAN host (host) and a WAN server (server), in the background
  demo [--keep]    start the same, cut the power of the active gateway, measure and check; --keep leaves it running
  status           what runs
  console MACHINE  serial console; Ctrl-] leaves; standard input may be a pipe
  cut MACHINE      power cut (SIGKILL of its QEMU)
  stop             end the lab

Flags of every command: --dir (build/demo); of up and demo also --image (build/image), --cmdline, --seed.
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
	machine := false
	switch args[0] {
	case "up", "demo":
		fs.StringVar(&o.image, "image", "build/image", "`folder` with vmlinux or vmlinuz, and initramfs.cpio.zst; relative to the module")
		fs.StringVar(&o.cmdline, "cmdline", "", "added to the kernel command line of every machine")
		fs.Uint64Var(&o.seed, "seed", 1, "of the switches' random choices")
		fs.BoolVar(&o.child, "child", false, "run in the background (the lab starts itself so)")
		o.demo = args[0] == "demo"
		o.keep = !o.demo
		if o.demo {
			fs.BoolVar(&o.keep, "keep", false, "leave the machines running")
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
	rest := fs.Args()
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
