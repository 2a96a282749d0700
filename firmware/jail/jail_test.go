package jail

import (
	"path/filepath"
	"syscall"
	"testing"
)

// Our own kernel has no IPC: clone(2) with CLONE_NEWIPC is an error there.
func TestOwnIPC(t *testing.T) {
	if got := ownIPC("/proc/self/ns/net"); got != syscall.CLONE_NEWIPC {
		t.Errorf("a kernel that has the namespace: %#x", got)
	}
	if got := ownIPC(filepath.Join(t.TempDir(), "ipc")); got != 0 {
		t.Errorf("a kernel without: %#x", got)
	}
}
