package console

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/tools/golden"
)

// TestPolicy holds what the administrator reads, command by command, over files of firmware/policy.
func TestPolicy(t *testing.T) {
	const files = "../policy/testdata/"
	var out bytes.Buffer
	for _, line := range []string{
		"check example.yaml",
		"check warnings.yaml bad/twice.yaml",
		"check nowhere.yaml",
		"diff example.yaml bad/twice.yaml",
		"diff example.yaml example.yaml",
		"explain example.yaml --from 10.1.0.9 --to 8.8.8.8:443",
		"explain example.yaml --from 10.1.0.9 --to 8.8.8.8:23",
		"explain example.yaml --from 198.51.100.7 --to 192.0.2.1:443",
		"explain example.yaml --from 10.2.0.21 --to 192.0.2.1:443",
		"explain example.yaml --from 10.2.0.41 --to 8.8.8.8:5060 --proto udp",
		"explain example.yaml --from 10.20.0.9 --to 8.8.8.8:53 --proto udp",
		"explain example.yaml --from 10.1.0.17 --to 10.1.0.1:22",
		"explain example.yaml --from 10.1.0.18 --to 10.1.0.2 --member 2",
		"explain example.yaml --from 10.9.9.9 --to 8.8.8.8:80 --in G2",
		"explain example.yaml --from 2001:db8:1::9 --to 2001:db8:99::1",
		"explain example.yaml --from 169.254.77.2 --to 169.254.77.1:8116 --proto udp",
		"explain example.yaml --from 1.2.3.4 --to ::1",
		"explain example.yaml --from 1.2.3.4 --to 1.2.3.5 --proto tcp",
		"explain example.yaml --from 1.2.3.4 --to 1.2.3.5 --in G9",
	} {
		var args []string
		for _, word := range strings.Fields(line) {
			if strings.HasSuffix(word, ".yaml") {
				word = files + word
			}
			args = append(args, word)
		}
		fmt.Fprintf(&out, "$ policy %s\n", line)
		cmd := NewCommand(Options{})
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(append([]string{"policy"}, args...))
		PrintError(&out, cmd.Execute())
	}
	golden.Check(t, "testdata/policy.golden", strings.ReplaceAll(out.String(), files, ""))
}
