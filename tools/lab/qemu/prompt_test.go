package qemu

import (
	"regexp"
	"testing"
)

const journalLine = "[   12.559] had: level=NOTICE msg=state_change text=\"INIT -> STANDBY\"\r\n"

func TestEcho(t *testing.T) {
	re := regexp.MustCompile(`^` + Echo("upgrade cluster /dev/vdb") + `$`)
	for text, want := range map[string]bool{
		"upgrade cluster /dev/vdb":                                    true,
		"upgrade " + journalLine + "cluster /dev/vdb":                 true,
		"upgrade " + journalLine + journalLine + " cluster /dev/vdb":  true,
		"upgr" + journalLine + "ade cluster /dev\r\n/vdb":             true,
		"upgrade" + "init: ready at 10.18s\r\n" + " cluster /dev/vdb": true,
		"upgrade /dev/vdb": false,
		"upgrade error: no such command\r\ncluster /dev/vdb":                false,
		"upgradecluster /dev/vdb":                                           false,
		"upgrade [   12.559] a line of the journal that has no end cluster": false,
	} {
		if got := re.MatchString(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestPrompt(t *testing.T) {
	re := regexp.MustCompile(`(?s)^(.*?)` + Prompt("gw-a", "twinkeep"))
	for _, tt := range []struct {
		text, out string
		found     bool
	}{
		{"said\r\ngw-a:/> ", "said\r\n", true},
		{"said\r\ngw-a:/> " + journalLine, "said\r\n", true},
		{"said\r\ngw-a:/> " + journalLine + "init: ready\r\n", "said\r\n", true},
		{"gw-a:/> ha\r\nsaid\r\ntwinkeep:/> ", "gw-a:/> ha\r\nsaid\r\n", true},
		{"said\r\ngw-a:/> [   12.5", "", false}, // its end is still to come
		{"said by gw-a [   12.559] had: text=\"INIT -> ", "", false},
		{"gw-a:/> ha\r\nsaid\r\n", "", false},
		{"gw-b:/> ", "", false},
	} {
		m := re.FindStringSubmatch(tt.text)
		if (m != nil) != tt.found || m != nil && m[1] != tt.out {
			t.Errorf("%q: %q, want %q, %v", tt.text, m, tt.out, tt.found)
		}
	}
}
