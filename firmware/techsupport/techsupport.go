// Package techsupport writes one archive of everything that tells how a member is, for whoever helps its operator: hardware,
// configuration without secrets, policy, states, events, evidence of role changes, journal. It asks the daemons as the console does.
package techsupport

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/twinkeep/twinkeep/firmware/api"
)

// maxPart bounds one file of the archive, in bytes. What is longer is cut, and says so.
const maxPart = 8 << 20

// patience is how long one daemon may take: the others' answers are worth having without it.
const patience = 10 * time.Second

// part is one file of the archive.
type part struct{ name, socket, path string }

// parts are what the daemons know. None has a secret: the daemons give none away.
var parts = []part{
	{"ha.json", api.HadSocket, "/v1/status"},
	{"events.json", api.HadSocket, "/v1/events"},
	{"changes.json", api.HadSocket, "/v1/changes"},
	{"sync.json", api.StatesyncdSocket, "/v1/status"},
	{"hardware.json", api.GatewaydSocket, "/v1/hardware"},
	{"interfaces.json", api.GatewaydSocket, "/v1/interfaces"},
	{"routes.json", api.GatewaydSocket, "/v1/routes"},
	{"rules.json", api.GatewaydSocket, "/v1/rules"},
	{"traffic.json", api.GatewaydSocket, "/v1/traffic?over=1m"},
	{"node.json", api.GatewaydSocket, "/v1/node"},
	{"node.yaml", api.GatewaydSocket, "/v1/node/file"},
	{"policy.json", api.GatewaydSocket, "/v1/policy"},
	{"license.json", api.GatewaydSocket, "/v1/license"},
	{"connections.json", api.GatewaydSocket, "/v1/connections/count"},
	{"services.json", api.InitSocket, "/v1/services"},
	{"journal.json", api.InitSocket, "/v1/journal"},
	{"case.json", api.HaldSocket, "/v1/status"},
	{"upgrade.json", api.UpgradedSocket, "/v1/cluster"},
	{"ssh.json", api.SSHSocket, "/v1/ssh"},
	{"api.json", api.RemoteSocket, "/v1/remote"},
}

// system are what the kernel says. Anybody may read them.
var system = []string{"uptime", "version", "cmdline", "meminfo", "loadavg", "interrupts", "softirqs", "modules", "net/dev", "net/snmp", "net/netstat", "net/softnet_stat", "net/stat/nf_conntrack"}

// Options of Write.
type Options struct {
	Version string // of the firmware
	// Policy puts the document of the policy in force into the archive, too. It has no secrets, but it tells much of a network.
	Policy bool
}

// Write writes the archive, gzipped tar. What could not be had is in it as a file NAME.error; the error is that of w, or of ctx.
func Write(ctx context.Context, w io.Writer, c *api.Client, o Options) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	now := time.Now()
	put := func(name string, data []byte, err error) error {
		if err != nil {
			name, data = name+".error", []byte(err.Error()+"\n")
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "techsupport/" + name, Mode: 0o644, Size: int64(len(data)), ModTime: now}); err != nil {
			return err
		}
		_, err = t.Write(data)
		return err
	}
	if err := put("version.txt", []byte(o.Version+"\n"), nil); err != nil {
		return err
	}
	seen := map[string][]byte{}
	for _, p := range parts {
		data, err := ask(ctx, c, p)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			seen[p.name] = data
		}
		if err := put(p.name, data, err); err != nil {
			return err
		}
	}
	if err := put("summary.txt", summary(o.Version, seen), nil); err != nil {
		return err
	}
	if o.Policy {
		data, err := document(ctx, c, seen)
		if err := put("policy.yaml", data, err); err != nil {
			return err
		}
	}
	for _, name := range system {
		data, err := read("/proc/" + name)
		if err := put("proc/"+name, data, err); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

func ask(ctx context.Context, c *api.Client, p part) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := c.Open(ctx, p.socket, p.path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return bounded(r)
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bounded(f)
}

func bounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPart+1))
	if len(data) > maxPart {
		data = fmt.Appendf(data[:maxPart], "\ncut after %d bytes\n", maxPart)
	}
	return data, err
}
