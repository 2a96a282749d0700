package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseConfig(t *testing.T) {
	good := "address: manager.example.net:8443\nrepository: policies/office\ntoken: tkm_x\n"
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := LoadConfig(path); err != nil || c.Token != "tkm_x" || c.Repository != "policies/office" {
		t.Errorf("%+v, %v", c, err)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"unknown key":     {good + "tokn: x\n", "tokn"},
		"no address":      {"repository: policies/office\n", "address"},
		"a URL":           {"address: https://manager\nrepository: policies/office\n", "without https://"},
		"no repository":   {"address: manager\n", "repository"},
		"bad repository":  {"address: manager\nrepository: ../x\n", "repository"},
		"no PEM":          {good + "ca: x\n", "no certificate in PEM"},
		"not YAML at all": {"\t{", FileName},
	} {
		if _, err := ParseConfig(FileName, []byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no file")
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("address: manager:8443\nrepository: policies/office\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := ParseConfig("x", data); err == nil {
			if _, err := c.reference(); err != nil {
				t.Errorf("accepted %+v", c)
			}
		}
	})
}
