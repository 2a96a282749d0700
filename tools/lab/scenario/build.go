package scenario

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildAgent builds the agent for the machines from the module at root.
func BuildAgent(ctx context.Context, root, out string) error {
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("build agent: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, "./tools/lab/agent/cmd/lab-agent")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build agent: %w\n%s", err, b)
	}
	return nil
}
