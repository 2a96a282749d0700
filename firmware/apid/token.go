package apid

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Role is what a token lets its bearer do.
type Role string

// Roles. An admin may do what a reader may.
const (
	Reader Role = "read"
	Admin  Role = "admin"
)

// TokensFile is in the config directory: a line a token, "NAME ROLE HASH". Lines that begin with # and empty ones do not count.
const TokensFile = "api-tokens"

const (
	maxTokens     = 64
	maxTokensFile = 16 << 10
	tokenPrefix   = "twk_" // so that it is recognised where it should not be
	tokenLen      = len(tokenPrefix) + 43
)

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$`)

// Token is what is kept of a token: not itself.
type Token struct {
	Name string
	Role Role
	// Hash is the SHA-256 of the token. The token is 256 random bits: nobody finds it by trying, so that a slow hash would only cost
	// the box time.
	Hash [sha256.Size]byte
}

// NewToken makes a token. text is what its bearer sends, and is not kept.
func NewToken(name string, role Role) (t Token, text string, err error) {
	if !validName.MatchString(name) {
		return t, "", fmt.Errorf("%.40q is no name for a token: 1 to 32 letters, digits, and _.- behind the first", name)
	}
	if role != Reader && role != Admin {
		return t, "", fmt.Errorf("%.40q is no role: read or admin", string(role))
	}
	var secret [32]byte
	rand.Read(secret[:])
	text = tokenPrefix + base64.RawURLEncoding.EncodeToString(secret[:])
	return Token{name, role, sha256.Sum256([]byte(text))}, text, nil
}

// ParseTokens reads a tokens file. A line that is none is an error with its number: whoever wrote it believes that it works.
func ParseTokens(data []byte) ([]Token, error) {
	var out []Token
	seen := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		t, err := parseToken(line)
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", n, err)
		case seen[t.Name]:
			return nil, fmt.Errorf("line %d: there are two tokens with the name %s", n, t.Name)
		case len(out) == maxTokens:
			return nil, fmt.Errorf("line %d: there are more than %d tokens", n, maxTokens)
		}
		seen[t.Name] = true
		out = append(out, t)
	}
	return out, lines.Err()
}

func parseToken(line string) (t Token, err error) {
	f := strings.Fields(line)
	if len(f) != 3 {
		return t, errors.New("want NAME ROLE HASH")
	}
	t.Name, t.Role = f[0], Role(f[1])
	if !validName.MatchString(t.Name) {
		return t, fmt.Errorf("%.40q is no name", t.Name)
	}
	if t.Role != Reader && t.Role != Admin {
		return t, fmt.Errorf("%.40q is no role: read or admin", f[1])
	}
	hash, err := hex.DecodeString(f[2])
	if err != nil || len(hash) != sha256.Size {
		return t, errors.New("the hash is not the SHA-256 of a token in hexadecimal")
	}
	copy(t.Hash[:], hash)
	return t, nil
}

// formatTokens is what ParseTokens reads.
func formatTokens(tokens []Token) []byte {
	var b bytes.Buffer
	for _, t := range tokens {
		fmt.Fprintf(&b, "%s %s %x\n", t.Name, t.Role, t.Hash)
	}
	return b.Bytes()
}

// bearer finds the token of an Authorization header (RFC 6750, section 2.1). All are compared, in the same time.
func bearer(tokens []Token, header string) (Token, bool) {
	scheme, text, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") || len(text) != tokenLen {
		return Token{}, false
	}
	hash := sha256.Sum256([]byte(text))
	found := -1
	for i := range tokens {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], tokens[i].Hash[:]), i, found)
	}
	if found < 0 {
		return Token{}, false
	}
	return tokens[found], true
}

// LoadTokens reads the tokens of a config directory. Without a file there are none.
func LoadTokens(configDir string) ([]Token, error) {
	path := filepath.Join(configDir, TokensFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTokensFile+1))
	if err == nil && len(data) > maxTokensFile {
		err = fmt.Errorf("it has more than %d bytes", maxTokensFile)
	}
	var tokens []Token
	if err == nil {
		tokens, err = ParseTokens(data)
	}
	if err != nil {
		return nil, fmt.Errorf("tokens of the API, %s: %w", path, err)
	}
	return tokens, nil
}
