// Command boot measures how long a gateway takes from power-on until it
// forwards, stage by stage, with Debian's kernel and with our own, started from a
// disk by UEFI firmware as on a real box, and directly as in the lab. It prints
// Markdown, and writes it into docs/benchmarks.md. It needs no root.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/tools/bench/machine"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
)

type bench struct {
	runs          int
	kernels, ways []string
	work, cache   string
	keys, page    string
	built         bool
	accel         qemu.Accel
}

func main() {
	b := bench{}
	flag.IntVar(&b.runs, "n", 5, "boots of each")
	kernels := flag.String("kernels", "debian,own", "kernels: debian, own")
	ways := flag.String("ways", "disk,lab", "how the machine is started: disk (UEFI firmware, boot loader, disk), lab (QEMU starts the kernel)")
	flag.StringVar(&b.work, "dir", "build/bench-boot", "folder for images and disks")
	flag.StringVar(&b.cache, "cache", "build/cache", "cache of the image builder")
	flag.StringVar(&b.keys, "keys", "build/keys", "folder with the keys of the images")
	flag.BoolVar(&b.built, "built", false, "measure the images that are in -dir, do not build them")
	flag.StringVar(&b.page, "page", "docs/benchmarks.md", "file to write the result into; empty: only print it")
	flag.Parse()
	b.kernels, b.ways = strings.Split(*kernels, ","), strings.Split(*ways, ",")
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := b.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench-boot:", err)
		stop()
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context) error {
	var err error
	if b.accel, err = qemu.Choose(qemu.ThisHost()); err != nil {
		return err
	}
	for _, k := range b.kernels {
		if k != "debian" && k != "own" {
			return fmt.Errorf("kernel %q: want debian or own", k)
		}
		for _, what := range []string{"disk", "pieces"} {
			if b.built {
				continue
			}
			if err := b.build(ctx, k, what); err != nil {
				return err
			}
		}
	}
	run, err := os.MkdirTemp("", "twk-boot-") // sockets need short paths
	if err != nil {
		return err
	}
	defer os.RemoveAll(run)
	begin, load := time.Now(), machine.Load()
	r := &report{runs: b.runs, ways: b.ways, kernels: b.kernels, boots: make(map[string][]*trace), sizes: make(map[string]string)}
	ways := make(map[string]way)
	for _, k := range b.kernels {
		if err := b.prepare(k, run, ways); err != nil {
			return err
		}
		for _, what := range []string{"disk", "pieces"} {
			text, err := os.ReadFile(filepath.Join(b.folder(k, what), "sizes.txt"))
			if err != nil {
				return err
			}
			r.sizes[k+" "+what] = string(text)
		}
	}
	for n := range b.runs + 1 {
		for _, name := range b.ways {
			for _, k := range b.kernels { // in turn, so that both meet the same neighbours on the machine
				if n == 0 && name != "disk" {
					continue
				}
				t, err := boot(ctx, ways[k+" "+name], run, filepath.Join(b.work, k, name+".log"))
				if err != nil {
					return fmt.Errorf("%s kernel, %s: %w", k, name, err)
				}
				fmt.Fprintf(os.Stderr, "%s kernel, %s, boot %d: forwards after %.1f s\n", k, name, n, t.at[atForward].Seconds())
				if n > 0 { // the first boot makes the file system
					r.boots[k+" "+name] = append(r.boots[k+" "+name], t)
				}
			}
		}
	}
	text := r.text(b.head(begin, load))
	fmt.Print(text)
	if b.page == "" {
		return nil
	}
	return writeSection(b.page, text)
}

func (b *bench) folder(kernel, what string) string { return filepath.Join(b.work, kernel, what) }

// build builds the images with a kernel.
func (b *bench) build(ctx context.Context, kernel, what string) error {
	args := []string{"run", "./tools/image", what, "--out", b.folder(kernel, what), "--cache", b.cache, "--keys", b.keys}
	if kernel == "own" {
		args = append(args, "--kernel", "own")
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("image with %s kernel: %w", kernel, err)
	}
	return nil
}

// prepare makes the ways to start a kernel.
func (b *bench) prepare(kernel, run string, into map[string]way) error {
	for _, name := range b.ways {
		dir := filepath.Join(run, kernel)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		switch name {
		case "disk":
			d := fromDisk{dir: dir, image: filepath.Join(b.work, kernel, "disk.img"), accel: b.accel}
			if err := d.prepare(b.folder(kernel, "disk"), b.cache, b.keys); err != nil {
				return err
			}
			into[kernel+" "+name] = d
		case "lab":
			into[kernel+" "+name] = direct{dir: dir, pieces: b.folder(kernel, "pieces"), accel: b.accel}
		default:
			return fmt.Errorf("way %q: want disk or lab", name)
		}
	}
	return nil
}

// head says what it was measured on.
func (b *bench) head(begin time.Time, load string) []string {
	lines := machine.Describe()
	return []string{
		lines[0], lines[1], version("qemu-system-x86_64") + ", " + b.accel.String() + "; one virtual CPU, 512 MiB", lines[3],
		fmt.Sprintf("%s, %s; load average %s before, %s after", begin.UTC().Format("2006-01-02 15:04 UTC"), time.Since(begin).Round(time.Second), load, machine.Load()),
		fmt.Sprintf("Repeat: `go run ./tools/bench/boot -n %d -kernels %s -ways %s`", b.runs, strings.Join(b.kernels, ","), strings.Join(b.ways, ",")),
	}
}

func version(program string) string {
	out, err := exec.Command(program, "--version").Output()
	if err != nil {
		return program + " of unknown version"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
