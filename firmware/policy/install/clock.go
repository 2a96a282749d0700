package install

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is the clock of this machine: CLOCK_BOOTTIME, which also counts suspension, and the kernel's boot ID.
func Clock() Instant {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // fails only for bad arguments
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return Instant{Boot: strings.TrimSpace(string(id)), At: time.Duration(ts.Nano())}
}
