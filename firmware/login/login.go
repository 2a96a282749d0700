// Package login keeps the password of the device's administrator. There is no default: until one is set, a device asks for none,
// and until it has a configuration it serves nothing.
package login

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/twinkeep/twinkeep/init/vault"
)

// FileName is the file in the config directory, one line: argon2id in the PHC string format.
const FileName = "admin"

// Limits of a password.
const (
	MinLength = 8   // characters
	MaxLength = 256 // bytes
)

// Cost of a hash (RFC 9106, 4; OWASP's second choice): 19 MiB, for boxes with 256 MB.
const (
	costMemory = 19 << 10 // KiB
	costTime   = 2
	saltLen    = 16
	hashLen    = 32
)

// Limits of a hash that is read.
const (
	maxMemory = 64 << 10 // KiB
	maxTime   = 16
	maxFile   = 1024
)

// Errors.
var (
	ErrWrong = errors.New("the password is wrong")
	ErrShort = fmt.Errorf("a password has at least %d characters", MinLength)
)

// Hash makes the line that is kept.
func Hash(password string) (string, error) {
	switch {
	case utf8.RuneCountInString(password) < MinLength:
		return "", ErrShort
	case len(password) > MaxLength:
		return "", fmt.Errorf("a password has at most %d bytes", MaxLength)
	}
	salt := make([]byte, saltLen)
	rand.Read(salt) // never fails
	b64 := base64.RawStdEncoding
	sum := argon2.IDKey([]byte(password), salt, costTime, costMemory, 1, hashLen)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, costMemory, costTime, b64.EncodeToString(salt), b64.EncodeToString(sum)), nil
}

// Verify compares a password with a line that Hash has made: ErrWrong, or another error when the line makes no sense.
func Verify(line, password string) error {
	var version, memory, time, threads int
	parts := strings.Split(strings.TrimSpace(line), "$")
	if len(line) > maxFile || len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return errors.New("the password on file is not an argon2id hash")
	}
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &memory, &time, &threads); err != nil ||
		version != argon2.Version || memory < 8 || memory > maxMemory || time < 1 || time > maxTime || threads < 1 || threads > 4 {
		return errors.New("the password on file was hashed in a way that is not known here")
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(want) < 16 || len(want) > 64 {
		return errors.New("the password on file is not an argon2id hash")
	}
	if len(password) > MaxLength {
		return ErrWrong
	}
	got := argon2.IDKey([]byte(password), salt, uint32(time), uint32(memory), uint8(threads), uint32(len(want)))
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return ErrWrong
	}
	return nil
}

// Load reads the line of a config directory. Without one it gives "".
func Load(configDir string) (string, error) {
	f, err := os.Open(filepath.Join(configDir, FileName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the password on file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", fmt.Errorf("read the password on file: %w", err)
	}
	if len(b) == 0 {
		b = []byte("empty") // it is there, so nobody comes in without one
	}
	return string(b), nil
}

// Set keeps a new password. After a power cut there is the old one or the new one.
func Set(configDir, password string) error {
	line, err := Hash(password)
	if err != nil {
		return err
	}
	if err := vault.Write(filepath.Join(configDir, FileName), []byte(line+"\n")); err != nil {
		return fmt.Errorf("keep the password: %w", err)
	}
	return nil
}
