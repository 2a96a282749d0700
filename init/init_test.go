package main

import "testing"

func TestWord(t *testing.T) {
	const cmdline = "console=ttyS0 quiet twinkeep.board=apu2 twinkeep.board=generic-x86_64 root="
	for key, want := range map[string]string{"twinkeep.board": "generic-x86_64", "console": "ttyS0", "quiet": "", "root": "", "board": ""} {
		if got := word(cmdline, key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

func TestBoardIn(t *testing.T) {
	for text, want := range map[string]string{
		"node: {name: gw-a}\nboard: apu2\nunknown: [1, 2]\n": "apu2",
		"board: auto":     "auto",
		"name: x":         "",
		"":                "",
		"board: [a, b]":   "",
		"\x00{[ not yaml": "",
	} {
		if got := boardIn([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
