package cluster_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// forbidden imports of the pure packages, with the reason.
var forbidden = map[string]string{
	"net":           "sockets belong to ha/port",
	"os":            "files and processes belong to ha/member",
	"log":           "the core returns events, it does not print",
	"log/slog":      "the core returns events, it does not print",
	"sync":          "the core has no goroutines",
	"context":       "the core has no goroutines",
	"math/rand":     "the same events must give the same actions",
	"math/rand/v2":  "the same events must give the same actions",
	"crypto/rand":   "the same events must give the same actions",
	"golang.org/x/": "the core uses the standard library only",
	"github.com/":   "the core uses the standard library only",
}

// clock functions of package time.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// TestCoreIsPure keeps ha/cluster, ha/probe and the codecs free of the world (ARCHITECTURE.md).
func TestCoreIsPure(t *testing.T) {
	for _, dir := range []string{".", "../wire", "../ccp", "../probe", "../internal/udp4"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no Go files in %s (%v)", dir, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			checkFile(t, name, f)
		}
	}
}

func checkFile(t *testing.T, name string, f *ast.File) {
	for _, i := range f.Imports {
		path, _ := strconv.Unquote(i.Path.Value)
		for bad, why := range forbidden {
			if path == bad || strings.HasSuffix(bad, "/") && strings.HasPrefix(path, bad) && path != "github.com/twinkeep/twinkeep/ha/wire" && path != "github.com/twinkeep/twinkeep/ha/internal/udp4" && path != "github.com/twinkeep/twinkeep/ha/ccp" {
				t.Errorf("%s imports %s: %s", name, path, why)
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			t.Errorf("%s starts a goroutine", name)
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name) {
				t.Errorf("%s calls time.%s: now is an argument", name, n.Sel.Name)
			}
		}
		return true
	})
}
