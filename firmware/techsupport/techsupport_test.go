package techsupport

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/api"
	"github.com/twinkeep/twinkeep/firmware/policy/artifact"
	"github.com/twinkeep/twinkeep/firmware/policy/install"
	"github.com/twinkeep/twinkeep/firmware/policy/sign"
	"github.com/twinkeep/twinkeep/ha/member"
	"github.com/twinkeep/twinkeep/init/unixhttp"
)

const text = "version: 1\nname: office\n"

// daemons are had and gatewayd with a policy in force, or none.
func daemons(t *testing.T, withPolicy bool) (*api.Client, artifact.Ref) {
	t.Helper()
	a, err := artifact.New(artifact.Meta{Name: "office", Revision: 43}, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	private, _, err := sign.Generate(sign.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	key, err := sign.ParsePrivate(private)
	if err == nil {
		err = sign.Sign(a, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	had, gw := http.NewServeMux(), http.NewServeMux()
	had.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) {
		api.Reply(w, member.Status{MemberName: "gw-a", Member: 1, ClusterName: "office", ClusterID: 7, State: "ACTIVE", Term: 5}, nil)
	})
	gw.HandleFunc("GET /v1/hardware", func(w http.ResponseWriter, _ *http.Request) {
		api.Reply(w, api.Hardware{Board: "apu2", NICs: []api.NIC{{Device: "G1", Place: "0000:01:00.0", Driver: "igb", MAC: "52:54:00:00:00:01", NN: 0x20, SharedMAC: "10:00:00:00:20:07", IDs: "8086:157b"}}}, nil)
	})
	if withPolicy {
		gw.HandleFunc("GET "+install.PathStatus, func(w http.ResponseWriter, _ *http.Request) { api.Reply(w, install.Status{InForce: a.Ref()}, nil) })
		gw.HandleFunc("GET "+install.PathFile, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("digest") != string(a.Digest()) {
				api.NotFound(w, r)
				return
			}
			if err := artifact.WriteBundle(w, a); err != nil {
				t.Error(err)
			}
		})
	}
	run := t.TempDir()
	for socket, h := range map[string]http.Handler{api.HadSocket: had, api.GatewaydSocket: gw} {
		ln, err := unixhttp.Listen(filepath.Join(run, socket))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- unixhttp.Serve(ctx, ln, h) }()
		t.Cleanup(func() { cancel(); <-done })
	}
	return api.NewClient(run), a.Ref()
}

// files are those of an archive, by name.
func files(t *testing.T, c *api.Client, o Options) map[string]string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(t.Context(), &b, c, o); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(r)
		out[strings.TrimPrefix(h.Name, "techsupport/")] = string(data)
	}
}

// TestPolicy: revision and digest are in every archive, the document when it is asked for.
func TestPolicy(t *testing.T) {
	c, ref := daemons(t, true)
	plain := files(t, c, Options{Version: "1.0"})
	want := fmt.Sprintf("version  1.0\nmember   gw-a (1) of cluster office (7)\nrole     ACTIVE, term 5\npolicy   revision 43, %s\nboard    apu2\n"+
		"port     G1 at 0000:01:00.0, driver igb, MAC 52:54:00:00:00:01, NN 20, shared MAC 10:00:00:00:20:07, 8086:157b\n", ref.Digest)
	if plain["summary.txt"] != want {
		t.Errorf("\n%s\nwant\n%s", plain["summary.txt"], want)
	}
	if _, there := plain["policy.yaml"]; there || !strings.Contains(plain["policy.json"], string(ref.Digest)) {
		t.Errorf("policy.yaml %v, policy.json %s", there, plain["policy.json"])
	}
	if got := files(t, c, Options{Policy: true})["policy.yaml"]; got != text {
		t.Errorf("%q", got)
	}
	if _, there := plain["sync.json.error"]; !there {
		t.Error("a daemon that does not answer is not named")
	}
}

// TestNoPolicy: a box that runs by its node file says so.
func TestNoPolicy(t *testing.T) {
	c, _ := daemons(t, false)
	got := files(t, c, Options{Policy: true})
	if !strings.Contains(got["summary.txt"], "policy   none\n") || !strings.Contains(got["policy.yaml.error"], "no policy") {
		t.Errorf("%q %q", got["summary.txt"], got["policy.yaml.error"])
	}
}
