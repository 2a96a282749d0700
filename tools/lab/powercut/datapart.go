package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/twinkeep/twinkeep/firmware/policy/store"
	"github.com/twinkeep/twinkeep/init/data"
	"github.com/twinkeep/twinkeep/tools/image/disk"
)

// dataOffset is where the data partition begins, in bytes.
const dataOffset = espOffset + disk.ESPSize

var currentRevision = regexp.MustCompile(`^(\d+)$`)

// judgeData wants the data partition of a disk to hold what was acknowledged before the cut. It is read with e2fsprogs, so nothing is mounted.
// repaired: replaying its journal did not suffice.
func (c cut) judgeData(ctx context.Context, name, scratch string) (repaired bool, err error) {
	node, policy := "", ""
	blank, err := isBlank(name)
	if err != nil {
		return false, err
	}
	if !blank {
		// e2fsck loses the offset of a partition when it opens it again after the journal.
		part := name + ".data"
		dd := exec.CommandContext(ctx, "dd", "if="+name, "of="+part, "bs=1M", fmt.Sprintf("skip=%d", dataOffset>>20), "conv=sparse", "status=none")
		if out, err := dd.CombinedOutput(); err != nil {
			return false, fmt.Errorf("dd: %w: %s", err, out)
		}
		if repaired, err = check(ctx, part); err != nil {
			return false, err
		}
		if node, policy, err = contents(ctx, part, scratch); err != nil {
			return repaired, err
		}
	}
	return repaired, errors.Join(within("node file", shown, node, c.Nodes, c.at), within("policy", currentRevision, policy, c.Policies, c.at))
}

// isBlank tells whether PID 1 makes the file system anew.
func isBlank(name string) (bool, error) {
	f, err := os.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, data.HeadSize)
	_, err = f.ReadAt(head, dataOffset)
	c := data.Inspect(head)
	return c == data.Blank || c == data.Unfinished, err
}

// totals of a file system are counted anew whenever it is mounted; on the disk they are right only after an unmount.
var totals = regexp.MustCompile(`Free (blocks|inodes) count wrong \([0-9]+, counted=[0-9]+\)\.\s+Fix\? yes`)

// check replays the journal and repairs what is left to repair, in up to three runs as PID 1 does, and tells whether there was any such thing.
func check(ctx context.Context, part string) (repaired bool, err error) {
	var last error
	for range 3 {
		cmd := exec.CommandContext(ctx, "e2fsck", "-f", "-y", part)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return false, err
		}
		said := totals.ReplaceAllString(string(out), "")
		repaired = repaired || strings.Contains(said, "? yes") || strings.Contains(said, "trying backup blocks")
		code := cmd.ProcessState.ExitCode()
		if code >= 0 && code < 4 {
			return repaired, nil
		}
		last = fmt.Errorf("e2fsck cannot repair the data partition (%d):\n%s", code, out)
	}
	return true, last
}

// contents gives the node file, and the revision of the policy in force as text. Both are empty when a factory reset is to be done, or they are
// not there.
func contents(ctx context.Context, part, scratch string) (node, policy string, err error) {
	if err := errors.Join(os.RemoveAll(scratch), os.Mkdir(scratch, 0o700)); err != nil {
		return "", "", err
	}
	if out, err := exec.CommandContext(ctx, "debugfs", "-R", "rdump / "+scratch, part).CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("debugfs: %w: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(scratch, data.ResetFile)); err == nil {
		return "", "", nil
	}
	text, err := os.ReadFile(filepath.Join(scratch, "config/node.yaml"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", "", err
	}
	if _, err := os.Stat(filepath.Join(scratch, "policy")); err != nil {
		return string(text), "", nil
	}
	s, err := store.OpenDir(filepath.Join(scratch, "policy"), 0)
	if err != nil {
		return "", "", err
	}
	if damage := s.Damage(); len(damage) > 0 {
		return "", "", fmt.Errorf("the policy store is damaged: %s", strings.Join(damage, "; "))
	}
	st := s.State()
	if ref := st.Ref(); !ref.IsZero() {
		policy = fmt.Sprint(ref.Revision)
	}
	return string(text), policy, nil
}
