package box

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/twinkeep/twinkeep/firmware/policy/registry"
	"github.com/twinkeep/twinkeep/firmware/upgrade/source"
	"github.com/twinkeep/twinkeep/tools/lab/qemu"
	"github.com/twinkeep/twinkeep/tools/managertest"
)

// inside is this host's loopback as a box with Config.Host sees it.
const inside = "10.1.0.254"

// insider puts it in the place of 127.0.0.1.
func insider(address string) string { return strings.Replace(address, "127.0.0.1", inside, 1) }

// managed starts a management server and gives the settings with which a box finds it.
func managed(t *testing.T, repository string) (*managertest.Server, qemu.File, registry.Config) {
	t.Helper()
	m := managertest.Start(t, inside)
	c := m.Config(repository, m.Gateway)
	c.Address = insider(c.Address)
	text, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return m, qemu.File{Path: "/etc/twinkeep/" + registry.FileName, Mode: 0o600, Data: text}, c
}

// upgrade gives the upgrade file of a variant.
func (l *life) upgrade(v Variant) []byte {
	l.Helper()
	i, err := l.maker.Make(v)
	l.must(err)
	b, err := l.maker.Upgrade(i)
	l.must(err)
	return b
}

// TestUpgradeSources: an upgrade file from a web server, made permanent by hand; what is cut short or longer there is refused. Then one from the management
// server, with the box's token and the authority it pins.
func TestUpgradeSources(t *testing.T) {
	t.Parallel()
	manager, file, settings := managed(t, "policies/office")
	with := func(v Variant) Variant {
		v.Files = append(slices.Clone(first.Files), file)
		return v
	}
	l := newLife(t, with(first), false)
	l.cfg.Host = true

	patient := l.upgrade(with(Variant{Revision: 200, Cmdline: "twinkeep.journal=console twinkeep.trial.healthy=9m"}))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := patient
		switch r.URL.Path {
		case "/cut":
			b = b[:len(b)/3]
		case "/long":
			b = append(b[:len(b):len(b)], "<html>"...)
		}
		if r.URL.Path != "/chunked" {
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		}
		w.Write(b)
	}))
	defer web.Close()
	manager.Publish("firmware/twinkeep", "v3", source.MediaType, map[string][]byte{
		source.FileName(l.maker.Release.Board): l.upgrade(with(Variant{Revision: 300, Cmdline: quick})),
		source.FileName("another-board"):       l.upgrade(with(Variant{Revision: 300, Board: "another-board"})),
	})

	l.on()
	l.ready()
	for name, says := range map[string]string{"cut": "cut short", "long": "behind its end"} {
		if out := l.command(fmt.Sprintf("upgrade install http://%s/%s", insider(web.Listener.Addr().String()), name)); !strings.Contains(out, says) {
			t.Errorf("%s: want %q in %s", name, says, out)
		}
	}
	l.runs("A", "good", 100)
	l.must(l.Enter(fmt.Sprintf("upgrade install http://%s/chunked", insider(web.Listener.Addr().String()))))
	l.see(`init: on trial: b`)
	l.ready()
	l.runs("B", "trial", 200)
	if out := l.command("upgrade confirm"); !strings.Contains(out, "permanent") {
		t.Errorf("upgrade confirm: %s", out)
	}
	l.cut()

	l.on()
	l.ready()
	l.runs("B", "good", 200)
	if out := l.command(fmt.Sprintf("upgrade install oci://%s/firmware/twinkeep:v9", settings.Address)); !strings.Contains(out, "not found") {
		t.Errorf("a tag that is not there: %s", out)
	}
	l.must(l.Enter(fmt.Sprintf("upgrade install oci://%s/firmware/twinkeep:v3", settings.Address)))
	l.see(`init: on trial: a`)
	l.see(`the image in slot A is permanent now: test-300`)
	l.runs("A", "good", 300)
	l.cut()
}
