package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Marks around the section of this bench in a file that people and other benches write to.
const (
	beginMark = "<!-- bench-failover: begin; written by make bench-failover -->"
	endMark   = "<!-- bench-failover: end -->"
)

// writeSection puts the text between the marks of a file, which it makes if needed.
func writeSection(path, text string) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write the result: %w", err)
	}
	page, err := replaceSection(string(old), text)
	if err != nil {
		return fmt.Errorf("write the result to %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// replaceSection replaces what is between the marks of a page, or appends it with the marks.
func replaceSection(page, text string) (string, error) {
	section := beginMark + "\n" + strings.TrimSpace(text) + "\n" + endMark
	begin, end := strings.Index(page, beginMark), strings.Index(page, endMark)
	switch {
	case begin < 0 && end < 0:
		if page = strings.TrimRight(page, "\n"); page != "" {
			page += "\n\n"
		}
		return page + section + "\n", nil
	case begin < 0 || end < begin:
		return "", errors.New("only one of the two marks of the section is there, or in the wrong order: remove both")
	}
	return page[:begin] + section + page[end+len(endMark):], nil
}
