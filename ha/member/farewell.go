package member

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/twinkeep/twinkeep/ha/port"
	"github.com/twinkeep/twinkeep/ha/wire"
)

const (
	farewellDir = "farewell"
	saidSuffix  = ".said" // while it is being said
	// routedPrefix begins the name of a farewell that goes over routers; the address follows.
	routedPrefix = "@"
)

// writeFarewell leaves one signed farewell frame per NIC in the run directory. The supervisor sends them the
// moment this process dies: they shut the gate on their way out and tell the peers, who need not wait
// for the dead time. They are good for this boot of the member only, and secret: whoever sends them takes
// the member out.
func (m *Member) writeFarewell() error {
	dir := filepath.Join(m.cfg.RunDir, farewellDir)
	if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(dir+saidSuffix)); err != nil {
		return fmt.Errorf("clear the old farewell: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a place for the farewell: %w", err)
	}
	for i, p := range m.ports {
		if p.port == nil || !p.Heartbeat {
			continue
		}
		b := m.machine.Farewell(i)
		frame := wire.AppendFrame(nil, p.envelope, m.key.Seal(b.Append(nil)))
		if err := os.WriteFile(filepath.Join(dir, p.Device), frame, 0o600); err != nil {
			return fmt.Errorf("write farewell: %w", err)
		}
	}
	for i, p := range m.paths {
		if p.remote.IsValid() {
			b := m.machine.Farewell(len(m.ports) + i)
			if err := os.WriteFile(filepath.Join(dir, routedPrefix+p.remote.String()), m.key.Seal(b.Append(nil)), 0o600); err != nil {
				return fmt.Errorf("write farewell: %w", err)
			}
		}
	}
	return nil
}

func removeFarewell(runDir string) { os.RemoveAll(filepath.Join(runDir, farewellDir)) }

// Farewell sends what a member that died left behind in its run directory: its gate shuts and its peers
// take over at once. It is no error when nothing was left, as after an orderly stop.
func Farewell(runDir string) error {
	// Taken away first: it is said once, whoever comes.
	dir := filepath.Join(runDir, farewellDir+saidSuffix)
	err := os.Rename(filepath.Join(runDir, farewellDir), dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("take the farewell: %w", err)
	}
	defer os.RemoveAll(dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read farewell: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		frame, err := os.ReadFile(filepath.Join(dir, e.Name()))
		to, routed := strings.CutPrefix(e.Name(), routedPrefix)
		switch {
		case err != nil:
		case routed:
			err = sendTo(to, frame)
		default:
			err = port.SendOnce(e.Name(), frame)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
