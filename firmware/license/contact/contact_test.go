package contact

import (
	"context"
	"crypto/ed25519"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/license"
)

func TestAsk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mark sockets")
	}
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	ring := license.Ring{license.KeyID(key.Public().(ed25519.PublicKey)): key.Public().(ed25519.PublicKey)}
	reply := func(w http.ResponseWriter, r *http.Request) {
		file, err := license.Answer{ID: strings.TrimPrefix(r.URL.Path, "/v1/licences/")}.Sign(r.FormValue("nonce"), key)
		if err != nil {
			t.Error(err)
		}
		w.Write(file)
	}
	var recorded []byte
	tests := map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"good":         {reply, ""},
		"refusal":      {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }, "says 403"},
		"elsewhere":    {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, "says 302"},
		"endless":      {func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1<<20)) }, "the most is"},
		"captive page": {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>please log in")) }, "no signature"},
		"recording": {func(w http.ResponseWriter, _ *http.Request) {
			if recorded == nil {
				recorded, _ = license.Answer{ID: "TK-1"}.Sign(strings.Repeat("0", 32), key)
			}
			w.Write(recorded)
		}, "does not answer this question"},
	}
	for name, tt := range tests {
		server := httptest.NewServer(tt.handler)
		a, err := Ask(context.Background(), &license.Licence{ID: "TK-1", Server: server.URL + "/"}, ring)
		server.Close()
		if tt.want == "" && (err != nil || a.ID != "TK-1") || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	if _, err := Ask(context.Background(), &license.Licence{ID: "TK-1", Server: "http://127.0.0.1:1"}, ring); err == nil || strings.Contains(err.Error(), "nonce") {
		t.Errorf("nobody there: %v", err)
	}
}
