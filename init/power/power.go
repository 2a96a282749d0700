// Package power ends the life of a machine in order.
package power

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/twinkeep/twinkeep/init/mount"
	"github.com/twinkeep/twinkeep/init/supervise"
)

// commands are the arguments of reboot(2).
var commands = map[supervise.Action]int{
	supervise.Poweroff: unix.LINUX_REBOOT_CMD_POWER_OFF,
	supervise.Reboot:   unix.LINUX_REBOOT_CMD_RESTART,
}

// Down brings the machine down when all services have stopped: it kills what is
// left, writes out and unmounts what holds data, and calls reboot(2), which
// does not return. An error means that the kernel refused.
func Down(action supervise.Action, log func(format string, args ...any)) error {
	cmd, ok := commands[action]
	if !ok {
		return fmt.Errorf("power: %q is neither poweroff nor reboot", action)
	}
	// -1: everything except PID 1 itself. It has been asked before.
	unix.Kill(-1, unix.SIGKILL)
	unix.Sync()
	if mounts, err := os.ReadFile("/proc/self/mounts"); err == nil {
		if err := mount.UnmountAll(mount.Kernel{}, mounts); err != nil {
			log("%v", err)
		}
	}
	unix.Sync()
	if err := unix.Reboot(cmd); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	return nil
}
