package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// InForceFile is what gatewayd leaves in the run directory of a box that runs by policies. Without it the node file
// says everything.
const InForceFile = "inforce.json"

// maxInForce bounds InForceFile, in bytes.
const maxInForce = 1 << 20

// InForce is what a box runs by policies. It holds no key: that is the node file's.
type InForce struct {
	// Node is the node that the policy makes; nil while there is no policy: then had runs by the node file, and without
	// the role.
	Node *Node `json:"node,omitempty"`
	// Revision and Digest of the policy in force; 0 and "" while there is none.
	Revision uint64 `json:"revision,omitempty"`
	Digest   string `json:"digest,omitempty"`
	// Blocked says why this member may not hold the role; empty: it may.
	Blocked string `json:"blocked,omitempty"`
	// Uninstalled: an operator has taken the policy out of force.
	Uninstalled bool `json:"uninstalled,omitempty"`
	// Boot and Supervisor are those it was written under: a run directory on a disk survives both.
	Boot       string `json:"boot"`
	Supervisor int    `json:"supervisor"`
}

// LoadInForce reads what is in force. The value is nil on a box that does not run by policies.
func LoadInForce(runDir string) (*InForce, error) {
	path := filepath.Join(runDir, InForceFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what is in force: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxInForce+1))
	if err == nil && len(data) > maxInForce {
		err = fmt.Errorf("more than %d bytes", maxInForce)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	in, err := parseInForce(data)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return in, nil
}

func parseInForce(data []byte) (*InForce, error) {
	in := new(InForce)
	if err := json.Unmarshal(data, in); err != nil {
		return nil, err
	}
	if in.Node != nil && in.Node.Cluster == nil {
		return nil, errors.New("it has a node without a cluster")
	}
	return in, nil
}

// Save leaves it in a run directory, atomically. Nil takes it away.
func (in *InForce) Save(runDir string) error {
	path := filepath.Join(runDir, InForceFile)
	if in == nil {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("take away what is in force: %w", err)
		}
		return nil
	}
	data, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("write what is in force: %w", err)
	}
	temp, err := os.CreateTemp(runDir, "."+InForceFile+".*")
	if err != nil {
		return fmt.Errorf("write what is in force: %w", err)
	}
	defer os.Remove(temp.Name()) // fails harmlessly once renamed
	_, err = temp.Write(data)
	if err = errors.Join(err, temp.Close()); err == nil { // it need not survive a power cut
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write what is in force: %w", err)
	}
	return nil
}

// LoadRunning gives the node that a daemon is to run by: that of the policy in force, with the key of the node file; or
// the node file's. in is nil on a box that does not run by policies.
func LoadRunning(configDir, runDir string) (n *Node, in *InForce, err error) {
	if in, err = LoadInForce(runDir); err != nil {
		return nil, nil, err
	}
	if n, _, err = Load(configDir); err != nil || in == nil || in.Node == nil {
		return n, in, err
	}
	if n.Cluster == nil || n.Cluster.ID != in.Node.Cluster.ID || n.Cluster.Member != in.Node.Cluster.Member {
		return nil, in, errors.New("the node file is not that of the member that runs the policy: node reload")
	}
	in.Node.Cluster.Key = n.Cluster.Key
	return in.Node, in, nil
}
