package supervise

import (
	"fmt"
	"os"
	"strconv"
)

// ReadyEnv names the environment variable that holds the number of the file
// descriptor on which a service reports itself ready.
const ReadyEnv = "TWINKEEP_READY_FD"

// NotifyReady is called by a service when it does its work. It writes one
// newline to the descriptor in ReadyEnv, closes it and clears the variable, so
// that a child of the service cannot report for it. Without a supervisor it
// does nothing.
func NotifyReady() error {
	v := os.Getenv(ReadyEnv)
	if v == "" {
		return nil
	}
	os.Unsetenv(ReadyEnv)
	fd, err := strconv.Atoi(v)
	if err != nil || fd < 3 {
		return fmt.Errorf("report ready: %s=%q is not a file descriptor above 2", ReadyEnv, v)
	}
	f := os.NewFile(uintptr(fd), ReadyEnv)
	defer f.Close()
	if _, err := f.Write([]byte{'\n'}); err != nil {
		return fmt.Errorf("report ready to the supervisor: %w", err)
	}
	return nil
}
