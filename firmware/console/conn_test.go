package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/api"
)

// TestConnCompletion: filters are offered, and what can stand behind them.
func TestConnCompletion(t *testing.T) {
	s := &session{interactive: true, Options: Options{Run: "/nonexistent"}}
	for line, want := range map[string]string{
		"conn --reply-d": "--reply-dst --reply-dport", "conn --proto s": "sctp", "conn --state est": "established", "conn --mark ": "<string>",
	} {
		choices, _ := choicesAt(t.Context(), s.root(), line)
		var words []string
		for _, c := range choices {
			words = append(words, c.word)
		}
		for _, w := range strings.Fields(want) {
			if !slices.Contains(words, w) {
				t.Errorf("%q: %v, want %s", line, words, w)
			}
		}
	}
}

// TestConnBlocks: many connections are written piece by piece, under one header; as JSON they are one document.
func TestConnBlocks(t *testing.T) {
	const many = 2*connBlock + 1
	for _, asJSON := range []bool{false, true} {
		var b bytes.Buffer
		w := connWriter{w: &b, json: asJSON}
		for i := range many {
			w.add(api.Connection{Proto: "udp", Original: api.Tuple{Src: addr("10.1.0.1"), Dst: addr("192.0.2.1"), SrcPort: uint16(i + 1), DstPort: 53}})
		}
		w.end(many, api.ConnectionCount{Count: many, Max: 5000})
		if asJSON {
			var got api.Connections
			if err := json.Unmarshal(b.Bytes(), &got); err != nil || len(got.Connections) != many || got.Matching != many {
				t.Errorf("%d connections: %v", len(got.Connections), err)
			}
			continue
		}
		if text := b.String(); strings.Count(text, "PROTO") != 1 || strings.Count(text, "udp ") != many || !strings.Contains(text, fmt.Sprintf("Connections %d out of 5000", many)) {
			t.Errorf("%d lines", strings.Count(text, "\n"))
		}
	}
}
