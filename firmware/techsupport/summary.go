package techsupport

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"text/tabwriter"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/install"
	"github.com/twinkeep/twinkeep/ha/member"
)

// summary is what is looked for first: who this is, its role, its policy by revision and digest, and where its ports sit.
func summary(version string, seen map[string][]byte) []byte {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	row("version", "%s", version)
	if s, ok := decode[member.Status](seen["ha.json"]); ok {
		row("member", "%s (%d) of cluster %s (%d)", s.MemberName, s.Member, s.ClusterName, s.ClusterID)
		row("role", "%s, term %d", s.State, s.Term)
	}
	if s, ok := decode[install.Status](seen["policy.json"]); ok && !s.InForce.IsZero() {
		row("policy", "revision %d, %s", s.InForce.Revision, s.InForce.Digest)
	} else {
		row("policy", "none")
	}
	if h, ok := decode[api.Hardware](seen["hardware.json"]); ok {
		row("board", "%s", h.Board)
		for _, n := range h.NICs {
			row("port", "%s at %s, driver %s, MAC %s, NN %02x, shared MAC %s, %s", n.Device, n.Place, n.Driver, n.MAC, n.NN, n.SharedMAC, n.IDs)
		}
	}
	w.Flush()
	return b.Bytes()
}

func decode[T any](data []byte) (v T, ok bool) {
	return v, data != nil && json.Unmarshal(data, &v) == nil
}

// document is the text of the policy in force.
func document(ctx context.Context, c *api.Client, seen map[string][]byte) ([]byte, error) {
	s, ok := decode[install.Status](seen["policy.json"])
	if !ok || s.InForce.IsZero() {
		return nil, errors.New("no policy is in force")
	}
	data, err := ask(ctx, c, part{"policy.yaml", api.GatewaydSocket, install.PathFile + "?" + url.Values{"digest": {string(s.InForce.Digest)}}.Encode()})
	if err != nil {
		return nil, err
	}
	a, err := artifact.ReadBundle(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return a.Document, nil
}
