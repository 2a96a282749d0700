package console

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/firmware/flash"
	"github.com/twinkeep/twinkeep/firmware/upgrade/esp"
)

func (s *session) flashCommand() *cobra.Command {
	var sure bool
	cmd := &cobra.Command{
		Use: "flash device", Short: "Write this system onto another disk, which loses everything that is on it", Args: cobra.ExactArgs(1),
		Long: "The disk gets both slots of this one and an empty data partition: neither the configuration nor the keys of this device\n" +
			"are copied. The disk that this system runs from, and disks that are in use, are refused.",
		Example: "  flash /dev/sda",
		RunE: func(cmd *cobra.Command, args []string) error {
			sys, err := esp.Open()
			if err != nil {
				return err
			}
			from, running := sys.Disk.ESP, sys.Disk.Name
			// Not mounted while it is copied.
			if err := sys.Close(); err != nil {
				return err
			}
			source, err := os.Open(from)
			if err != nil {
				return err
			}
			defer source.Close()
			size, err := source.Seek(0, io.SeekEnd)
			if err != nil {
				return err
			}
			t, err := flash.Inspect(args[0], running, size)
			if err != nil {
				return err
			}
			if err := s.sureToFlash(cmd, t, sure); err != nil {
				return err
			}
			target, err := os.OpenFile(t.Device, os.O_RDWR|unix.O_EXCL, 0)
			if err != nil {
				return err
			}
			defer target.Close()
			if err := flash.Write(target, t.Size, source, size, s.progress(cmd)); err != nil {
				return fmt.Errorf("%s: %w", t.Device, err)
			}
			return s.say(cmd, t.Device+" is written and compared. Its first boot makes the data partition.")
		},
	}
	cmd.Flags().BoolVar(&sure, "yes", false, "do not ask")
	return cmd
}

func (s *session) sureToFlash(cmd *cobra.Command, t flash.Target, sure bool) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "%s %s, %d MiB. On it: %s\n", t.Device, t.Model, t.Size>>20, t.Content)
	if sure || t.Empty {
		return nil
	}
	line, err := s.readLine("It loses all of this. Type the name of the device to go on: ")
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if line != t.Device {
		return errors.New("nothing was written")
	}
	return nil
}
