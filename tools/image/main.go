// Command image builds what a gateway boots: a kernel from a Debian or Ubuntu
// package or one of our own, and an initramfs with PID 1, the product, its
// kernel modules and the rescue commands. It needs no root.
//
//	go run ./tools/image pieces --board qemu-x86_64 --out build/image
//	go run ./tools/image disk --board generic-x86_64 --out build/disk
//	go run ./tools/image kernel            our own kernel, into the cache; --kernel own puts it into an image
//	go run ./tools/image check-kernel      only its configuration
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
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
	what := "pieces"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		what, args = args[0], args[1:]
	}
	b := &build{begin: time.Now(), overrides: make(map[string][]byte)}
	fs := flag.NewFlagSet("image "+what, flag.ContinueOnError)
	fs.StringVar(&b.board, "board", "generic-x86_64", "board the image is for")
	fs.StringVar(&b.out, "out", "build/image", "folder for the result")
	fs.StringVar(&b.cache, "cache", "build/cache", "folder for downloads and built commands")
	fs.StringVar(&b.buildroot, "buildroot", "buildroot", "folder with modules.txt, commands.txt, layout.txt, kernel.config")
	fs.StringVar(&b.kernel, "kernel", "", "kernel `package`, by default linux-image-amd64 or -arm64 as the board wants; a meta package is followed (linux-image-cloud-amd64: virtual machines only); own: built from kernel.config")
	fs.IntVar(&b.jobs, "jobs", 0, "compilers at a time for our own kernel; the default is one per processor")
	fs.StringVar(&b.twinkeep, "twinkeep", "", "take this `program` as /bin/twinkeep instead of building ./firmware/twinkeep")
	fs.BoolVar(&b.verify, "verify", false, "build a second time from nothing and compare")
	fs.StringVar(&b.release.Version, "version", "", "version for people; the default is git describe")
	fs.Uint64Var(&b.release.Revision, "revision", 0, "revision, older ones are refused by an upgrade; the default is the time of the commit")
	fs.StringVar(&b.disk.keys, "keys", "build/keys", "folder with the keys that tools/sign makes; it makes a missing upgrade key")
	fs.BoolVar(&b.disk.sign, "sign", false, "sign for secure boot with the db key in --keys")
	fs.StringVar(&b.disk.cmdline, "cmdline", "", "more kernel command line")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	switch what {
	case "kernel":
		return b.ownKernel(ctx)
	case "check-kernel":
		return b.own().Check(ctx)
	}
	if err := b.identify(ctx); err != nil {
		return err
	}
	switch what {
	case "pieces":
		return b.pieces(ctx)
	case "disk":
		return b.image(ctx)
	}
	return fmt.Errorf("%q is not one of pieces (kernel and initramfs), disk (the image of a disk and its upgrade file), kernel and check-kernel (our own kernel)", what)
}
