package box

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestUpgradeSources: an upgrade file from a web server, made permanent by hand; what is cut short there is refused.
func TestUpgradeSources(t *testing.T) {
	l := newLife(t, first, false)
	l.cfg.Host = true
	file := func(v Variant) []byte {
		i, err := l.maker.Make(v)
		l.must(err)
		b, err := l.maker.Upgrade(i)
		l.must(err)
		return b
	}
	patient := file(Variant{Revision: 200, Cmdline: "twinkeep.journal=console twinkeep.trial.healthy=9m"})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := patient
		if r.URL.Path == "/cut" {
			b = b[:len(b)/3]
		}
		w.Write(b)
	}))
	defer web.Close()
	inside := func(s *httptest.Server) string {
		return strings.Replace(s.Listener.Addr().String(), "127.0.0.1", "10.1.0.254", 1)
	}

	l.on()
	l.ready()
	if out := l.command(fmt.Sprintf("upgrade install http://%s/cut", inside(web))); !strings.Contains(out, "nothing has changed") {
		t.Errorf("a third of an upgrade file: %s", out)
	}
	l.runs("A", "good", 100)
	l.must(l.Enter(fmt.Sprintf("upgrade install http://%s/whole", inside(web))))
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
	l.cut()
}
