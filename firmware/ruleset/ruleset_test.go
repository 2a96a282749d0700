package ruleset

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/node"
	"github.com/twinkeep/twinkeep/tools/golden"
)

func load(t *testing.T, file string) *Ruleset {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n, _, err := node.Parse(file, data)
	if err != nil {
		t.Fatal(err)
	}
	return New(n)
}

func files(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	return files
}

func TestString(t *testing.T) {
	for _, file := range files(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			golden.Check(t, strings.TrimSuffix(file, ".yaml")+".nft", load(t, file).String())
		})
	}
}
