package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/init/data"
	"github.com/twinkeep/twinkeep/init/supervise"
)

func (s *session) rebootCommand() *cobra.Command {
	return s.powerCommand("reboot", "Restart this device", supervise.Reboot, "This device restarts.")
}

func (s *session) shutdownCommand() *cobra.Command {
	return s.powerCommand("shutdown", "Switch this device off", supervise.Poweroff, "This device switches itself off.")
}

func (s *session) factoryResetCommand() *cobra.Command {
	var sure bool
	cmd := &cobra.Command{
		Use: "factory-reset", Short: "Restart this device and erase its configuration, keys and journals", Args: cobra.NoArgs,
		Long: "The node file, the cluster key, the remembered term and the journals are erased at the next start; both images stay.\n" +
			"The device comes back as after its first boot, with its gate shut.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			disk, err := data.Read()
			if err != nil {
				return &api.Error{Message: "this device has no data partition: a restart forgets everything", Cause: err}
			}
			if !sure {
				line, err := s.readLine("All configuration and keys of this device are lost. Type erase to go on: ")
				if err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				if line != "erase" {
					return errors.New("nothing was done")
				}
			}
			if err := disk.AskReset(); err != nil {
				return err
			}
			if err := s.client().Shutdown(cmd.Context(), supervise.Reboot); err != nil {
				return err
			}
			return s.say(cmd, "This device restarts and erases itself.")
		},
	}
	cmd.Flags().BoolVar(&sure, "yes", false, "do not ask")
	return cmd
}

func (s *session) powerCommand(name, help string, action supervise.Action, message string) *cobra.Command {
	var sure bool
	cmd := &cobra.Command{
		Use: name, Short: help, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !sure {
				line, err := s.readLine("Type yes to " + name + ": ")
				if err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				if cmd.Context().Err() != nil {
					return cmd.Context().Err()
				}
				if line != "yes" {
					return errors.New("nothing was done")
				}
			}
			if err := s.client().Shutdown(cmd.Context(), action); err != nil {
				return err
			}
			return s.say(cmd, message)
		},
	}
	cmd.Flags().BoolVar(&sure, "yes", false, "do not ask")
	return cmd
}

func (s *session) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version of this firmware", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := version{either(s.Version, "unknown"), runtime.Version(), runtime.GOARCH}
			return show(cmd, s, v, func(w io.Writer, v version) {
				fmt.Fprintf(w, "Twinkeep %s (%s, %s)\n", v.Version, v.Go, v.Arch)
			})
		},
	}
}

type version struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	Arch    string `json:"arch"`
}

func (s *session) shellCommand() *cobra.Command {
	return &cobra.Command{
		Use: "shell", Short: "Run a shell; exit comes back here", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.Operator != "" {
				return &api.Error{Message: "there is no shell over the network", Hint: "it is on the serial console"}
			}
			command := s.shell()
			if command == nil {
				return &api.Error{Message: "there is no shell on this device"}
			}
			return s.foreground(func(in io.Reader, out io.Writer) error {
				sh := exec.Command(command[0], command[1:]...)
				sh.Stdin, sh.Stdout, sh.Stderr = in, out, out
				err := s.run(sh)
				var ended *exec.ExitError
				if errors.As(err, &ended) {
					return nil // how the last command in the shell ended is no fault of the console
				}
				return err
			})
		},
	}
}

// run runs another program, which ends with the console: it hangs up.
func (s *session) run(program *exec.Cmd) error {
	if err := program.Start(); err != nil {
		return err
	}
	if s.life != nil {
		defer context.AfterFunc(s.life, func() { program.Process.Signal(syscall.SIGHUP) })()
	}
	return program.Wait()
}

// shell is the one of the image, else the operator's own.
func (s *session) shell() []string {
	if len(s.Shell) > 0 {
		return s.Shell
	}
	for _, path := range []string{"/bin/gosh", os.Getenv("SHELL"), "/bin/sh"} {
		if path == "" {
			continue
		}
		if _, err := exec.LookPath(path); err == nil {
			return []string{path}
		}
	}
	return nil
}
