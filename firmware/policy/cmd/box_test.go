package cmd

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/twinkeep/twinkeep/firmware/peerapi"
	"github.com/twinkeep/twinkeep/firmware/policy/install"
)

// TestInstallSaysWhatIsKnown: "nothing was changed" is said when that is so, and only then.
func TestInstallSaysWhatIsKnown(t *testing.T) {
	tx := install.Transaction{ID: strings.Repeat("0a", 16), Coordinator: 1, Members: []uint8{1}}
	report := func(decided bool, r install.Result) install.Report {
		return install.Report{Transaction: tx, Decided: decided, Installed: r.State == install.Installed, Members: []install.Result{r}}
	}
	for name, c := range map[string]struct {
		serve http.HandlerFunc // nil: nobody listens
		want  string           // empty: no error
	}{
		"installed": {reply(report(true, install.Result{Member: 1, State: install.Installed})), ""},
		"rejected":  {reply(report(false, install.Result{Member: 1, State: install.Rejected, Reason: "why"})), "nothing was changed"},
		"busy":      {reply(report(false, install.Result{Member: 1, State: install.Busy, Reason: "why"})), "nothing was changed"},
		"later":     {reply(report(true, install.Result{Member: 1, State: install.Later, Prepared: true})), "policy status"},
		"the member ends in the middle of it": {func(w http.ResponseWriter, _ *http.Request) {
			panic(http.ErrAbortHandler)
		}, "not known"},
		"half an answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("{"))
		}, "not known"},
		"no member": {nil, "is gatewayd running"},
	} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "s")
			if c.serve != nil {
				ln, err := net.Listen("unix", socket)
				if err != nil {
					t.Fatal(err)
				}
				server := &http.Server{Handler: c.serve}
				go server.Serve(ln)
				defer server.Close()
			}
			root := &cobra.Command{Use: "policy", SilenceErrors: true, SilenceUsage: true}
			root.AddCommand(Commands(Options{Socket: func() string { return socket }})...)
			var out bytes.Buffer
			root.SetOut(&out)
			root.SetErr(&out)
			root.SetArgs([]string{"install", "--revision", "2"})
			err := root.ExecuteContext(t.Context())
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%v\n%s", err, out.String())
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v; want %q", err, c.want)
			case c.want != "nothing was changed" && err != nil && strings.Contains(err.Error(), "nothing was changed"):
				t.Errorf("%v is said of what may have changed", err)
			}
		})
	}
}

func reply(r install.Report) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { peerapi.Reply(w, json.RawMessage(must(json.Marshal(r)))) }
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
