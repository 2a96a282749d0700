// Command image builds what a gateway boots: a kernel from a Debian or Ubuntu
// package, and an initramfs with PID 1, the product, its kernel modules and the
// rescue commands. It needs no root.
//
//	go run ./tools/image [pieces] --board qemu-x86_64 --out build/image
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "pieces" {
		args = args[1:]
	}
	b := &build{begin: time.Now()}
	fs := flag.NewFlagSet("image pieces", flag.ContinueOnError)
	fs.StringVar(&b.board, "board", "qemu-x86_64", "board the image is for")
	fs.StringVar(&b.out, "out", "build/image", "folder for the result")
	fs.StringVar(&b.cache, "cache", "build/cache", "folder for downloads and built commands")
	fs.StringVar(&b.buildroot, "buildroot", "buildroot", "folder with modules.txt, commands.txt, layout.txt")
	fs.StringVar(&b.kernel, "kernel", "linux-image-amd64", "kernel `package`; a meta package is followed (linux-image-cloud-amd64: virtual machines only)")
	fs.StringVar(&b.twinkeep, "twinkeep", "", "take this `program` as /bin/twinkeep instead of building ./firmware/twinkeep")
	fs.BoolVar(&b.verify, "verify", false, "build a second time from nothing and compare")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: the only command is pieces", fs.Arg(0))
	}
	return b.pieces(ctx)
}
