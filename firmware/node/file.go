package node

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/twinkeep/twinkeep/init/vault"
)

// MaxSize is the largest node file that is read, in bytes.
const MaxSize = 256 << 10

// Load reads, parses and checks the node file of a config directory, and the key file it names. Faults of the
// content are an ErrorList.
func Load(configDir string) (*Node, Warnings, error) {
	return LoadFile(filepath.Join(configDir, FileName))
}

// LoadFile is Load for a node file with a name of its own; a key file is looked for beside it.
func LoadFile(path string) (*Node, Warnings, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, nil, missing(path, err)
	}
	return check(path, data)
}

// Check parses data as if it were the node file of a config directory.
func Check(configDir string, data []byte) (*Node, Warnings, error) {
	return check(filepath.Join(configDir, FileName), data)
}

func check(path string, data []byte) (*Node, Warnings, error) {
	n, warnings, err := Parse(path, data)
	if err != nil || n.Cluster == nil {
		return n, warnings, err
	}
	var secret string
	if n.Cluster.KeyFile != "" {
		secret = n.Cluster.KeyFile
		if !filepath.IsAbs(secret) {
			secret = filepath.Join(filepath.Dir(path), secret)
		}
		if n.Cluster.Key, err = loadKey(secret); err != nil {
			return nil, warnings, ErrorList{{File: path, Path: "cluster.key_file", Message: err.Error(), Hint: makeKey + " > " + secret}}
		}
	} else {
		secret = path
	}
	if info, err := os.Stat(secret); err == nil && info.Mode().Perm()&0o004 != 0 {
		warnings = append(warnings, Problem{File: path, Path: "cluster", Hint: "chmod 600 " + secret,
			Message: fmt.Sprintf("the cluster key in %s can be read by every user (mode %03o)", secret, info.Mode().Perm())})
	}
	return n, warnings, nil
}

func missing(path string, err error) error {
	hint := "check the directory and its permissions"
	if errors.Is(err, fs.ErrNotExist) {
		hint = "write one with: node edit"
	}
	return ErrorList{{File: path, Message: "cannot read the node file: " + err.Error(), Hint: hint}}
}

// readFile refuses what is too large to be a node file before it is in memory.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if info.Size() > MaxSize {
		return nil, fmt.Errorf("%d bytes, the most is %d", info.Size(), MaxSize)
	}
	return os.ReadFile(path)
}

func loadKey(path string) (Key, error) {
	data, err := readFile(path)
	if err != nil {
		return Key{}, fmt.Errorf("cannot read the cluster key: %w", err)
	}
	key, bad := clusterKey(strings.TrimSpace(string(data)))
	if bad != nil {
		return Key{}, fmt.Errorf("%s: %s", path, bad.message)
	}
	return key, nil
}

// Save puts data in place as the node file, atomically: after a power cut there is the old file or the new one. A
// file that does not check is refused, and the old one stays.
func Save(configDir string, data []byte) (Warnings, error) {
	_, warnings, err := Check(configDir, data)
	if err != nil {
		return warnings, err
	}
	// The file can hold the key, and may be sealed.
	if err := vault.Write(filepath.Join(configDir, FileName), data); err != nil {
		return warnings, fmt.Errorf("save node file: %w", err)
	}
	return warnings, nil
}

// redacted stands for the key wherever the file is shown.
const redacted = "REDACTED"

// keyLine finds the key wherever it can stand on one line, in a block or a flow mapping. It does not need the file
// to be valid: a bad file is shown too. key_file does not match.
var keyLine = regexp.MustCompile(`(?m)((?:^|[\s{,])["']?key["']?[ \t]*:[ \t]*)("[^"\n]*"|'[^'\n]*'|[^\s#,}]+)`)

// keyFolded finds a key that goes on in the next line.
var keyFolded = regexp.MustCompile(`(?m)(?:^|[\s{,])["']?key["']?[ \t]*:[ \t]*(?:[|>#].*|"[^"\n]*|'[^'\n]*)?$`)

// base64Run is whatever else could be a key of 32 bytes.
var base64Run = regexp.MustCompile(`[A-Za-z0-9+/]{43}=`)

// Redact gives the file without the cluster key, comments and layout kept. When the key is written in a way that it
// cannot cut out, it gives nothing of the file.
func Redact(data []byte) []byte {
	hidden := []byte("# Not shown: the cluster key is not on one line.\n")
	if keyFolded.Match(data) {
		return hidden
	}
	out := keyLine.ReplaceAll(data, []byte("${1}"+redacted))
	out = base64Run.ReplaceAll(out, []byte(redacted))
	if n, _, err := Parse("", data); err == nil && n.Cluster != nil && !n.Cluster.Key.IsZero() {
		key := []byte(base64.StdEncoding.EncodeToString(n.Cluster.Key[:]))
		if bytes.Contains(bytes.Join(bytes.Fields(out), nil), bytes.TrimRight(key, "=")) {
			return hidden
		}
	}
	return out
}

// Unredact puts the key of the old file back where a redacted one is saved, so that a file can be shown, edited and
// pasted back without the key ever being on the screen. The old file need not be valid: a bad one is what operators
// mend this way.
func Unredact(data, old []byte) []byte {
	was, is := keyLine.FindAllSubmatchIndex(old, 2), keyLine.FindSubmatchIndex(data)
	if len(was) != 1 || is == nil || string(data[is[4]:is[5]]) != redacted {
		return data
	}
	return bytes.Join([][]byte{data[:is[4]], old[was[0][4]:was[0][5]], data[is[5]:]}, nil)
}
