package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxFile     = 512 << 10
	maxStream   = 256 << 10
	maxTimeout  = 10 * time.Minute
	execTimeout = 10 * time.Second
)

func uptime() (UptimeResult, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return UptimeResult{}, fmt.Errorf("read CLOCK_BOOTTIME: %w", err)
	}
	return UptimeResult{Uptime: time.Duration(ts.Nano())}, nil
}

// run runs a program with bounded time and output.
func run(ctx context.Context, p ExecParams) (ExecResult, error) {
	if len(p.Argv) == 0 {
		return ExecResult{}, errors.New("argv is empty")
	}
	if p.Timeout <= 0 {
		p.Timeout = execTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, min(p.Timeout, maxTimeout))
	defer cancel()
	out, errOut := bounded{max: maxStream}, bounded{max: maxStream}
	cmd := exec.CommandContext(ctx, p.Argv[0], p.Argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader([]byte(p.Stdin)), &out, &errOut
	cmd.WaitDelay = time.Second // a grandchild may hold the pipes
	err := cmd.Run()
	res := ExecResult{Stdout: out.String(), Stderr: errOut.String()}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		res.Exit, res.Note = -1, fmt.Sprintf("killed after %v", p.Timeout)
	case errors.As(err, &exit):
		res.Exit = exit.ExitCode()
	case err != nil:
		return ExecResult{}, err
	}
	return res, nil
}

// bounded keeps the first max bytes and takes the rest.
type bounded struct {
	bytes.Buffer
	max int
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.max - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// readFile reads a file; those of /proc and /sys have no size of their own.
func readFile(p FileParams) (FileResult, error) {
	f, err := os.Open(p.Path)
	if err != nil {
		return FileResult{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return FileResult{}, err
	}
	if len(b) > maxFile {
		return FileResult{}, fmt.Errorf("%s is longer than %d bytes", p.Path, maxFile)
	}
	return FileResult{Size: int64(len(b)), Data: b}, nil
}

func statFile(p FileParams) (FileResult, error) {
	fi, err := os.Stat(p.Path)
	if err != nil {
		return FileResult{}, err
	}
	return FileResult{Size: fi.Size()}, nil
}
