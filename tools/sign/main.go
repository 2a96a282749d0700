// Command sign makes and uses the keys that images are signed with.
//
//	go run ./tools/sign keygen          makes all keys that are missing, in build/keys
//	go run ./tools/sign efi IN OUT      signs an EFI executable for secure boot
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/twinkeep/twinkeep/tools/sign/keyring"
)

func main() {
	keys := flag.String("keys", "build/keys", "folder of the keys")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: sign [-keys DIR] keygen | efi IN OUT")
		flag.PrintDefaults()
	}
	flag.Parse()
	if err := run(keyring.Dir(*keys), flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "sign:", err)
		os.Exit(1)
	}
}

func run(d keyring.Dir, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "keygen":
		made, err := d.Generate()
		if err != nil {
			return err
		}
		if len(made) == 0 {
			made = []string{"nothing: all are there"}
		}
		fmt.Printf("made in %s: %s\nkeep the .key files secret; images built with them: make image KEYS=%s SIGN=1\n", d, strings.Join(made, ", "), d)
		return nil
	case len(args) == 3 && args[0] == "efi":
		in, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		out, err := d.SignEFI(in)
		if err != nil {
			return err
		}
		return os.WriteFile(args[2], out, 0o644)
	}
	flag.Usage()
	return fmt.Errorf("want keygen, or efi IN OUT")
}
