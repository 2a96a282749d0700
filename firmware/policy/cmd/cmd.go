// Package cmd is the command policy: on the workstation keys, signing and publishing, on the box installing and history.
package cmd

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/registry"
	"github.com/twinkeep/twinkeep/firmware/policy/sign"
)

// Options of Commands.
type Options struct {
	// Socket gives the path of the socket where the member's own API is served; it is called when a command runs.
	Socket func() string
	// JSON says whether answers are wanted as JSON; it is called when a command runs.
	JSON func() bool
	// Check says what is wrong with a document before it is signed; may be nil.
	Check func(document []byte) error
}

// Commands are the subcommands of policy that this package has.
func Commands(o Options) []*cobra.Command {
	if o.JSON == nil {
		o.JSON = func() bool { return false }
	}
	if o.Check == nil {
		o.Check = func([]byte) error { return nil }
	}
	return []*cobra.Command{
		keygenCommand(), o.signCommand(), o.pushCommand(), pullCommand(), o.rollbackCommand(),
		o.statusCommand(), o.historyCommand(), o.unsyncedCommand(), o.fileCommand(), o.installCommand(),
		o.uninstallCommand(), o.recoverCommand(),
		o.endCommand("confirm", "Keep the policy that was installed with --confirm, on all members"),
		o.endCommand("cancel", "Go back from a policy that was installed with --confirm, on all members, at once"),
	}
}

// maxFile bounds what is read from the workstation's disk.
const maxFile = artifact.MaxDocument + 2<<20

// readFile reads a file, or standard input for "-".
func readFile(path string) ([]byte, error) {
	if path == "-" {
		data, err := io.ReadAll(io.LimitReader(os.Stdin, maxFile+1))
		if err == nil && len(data) > maxFile {
			err = fmt.Errorf("standard input: more than %d bytes", maxFile)
		}
		return data, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes, the most is %d", path, info.Size(), maxFile)
	}
	return os.ReadFile(path)
}

// author is who signs: the user at this machine.
func author() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// server is the management server named by --settings.
type server struct{ settings string }

func (s *server) flag(c *cobra.Command) {
	c.Flags().StringVar(&s.settings, "settings", registry.FileName, "file with the management server's address and token")
	c.MarkFlagFilename("settings", "yaml")
}

func (s *server) open() (*registry.Registry, error) {
	c, err := registry.LoadConfig(s.settings)
	if err != nil {
		return nil, fmt.Errorf("%w: the server printed them when it started first; see docs/management-server.md", err)
	}
	return registry.New(c)
}

// with opens the server for the time of f.
func (s *server) with(f func(*registry.Registry) error) error {
	r, err := s.open()
	if err != nil {
		return err
	}
	defer r.Close()
	return f(r)
}

// private are the signing keys named by --key.
type private struct{ paths []string }

func (p *private) flag(c *cobra.Command) {
	c.Flags().StringSliceVar(&p.paths, "key", nil, "private key; several sign all")
	c.MarkFlagRequired("key")
	c.MarkFlagFilename("key", "key", "pem")
}

// keys reads them.
func (p *private) keys() (keys []crypto.Signer, err error) {
	for _, path := range p.paths {
		data, err := readFile(path)
		if err != nil {
			return nil, err
		}
		key, err := sign.ParsePrivate(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func (p *private) sign(a *artifact.Artifact) error {
	keys, err := p.keys()
	for _, key := range keys {
		err = errors.Join(err, sign.Sign(a, key))
	}
	return err
}

// errExists is what nothing may be written over.
var errExists = errors.New("it exists already")

// writeNew writes a file that is not there yet.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s: %w", path, errExists)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// now is the time of signing, which only people read.
func now() time.Time { return time.Now().UTC().Truncate(time.Second) }
