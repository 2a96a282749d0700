package vault

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	testKey   = bytes.Repeat([]byte{7}, KeySize)
	testFiles = []File{{"config/node.yaml", 0o600, []byte("key: secret")}, {"ssh/host_ed25519", 0o600, []byte{0, 1, 255}}}
	testHead  = Header{ID: bytes.Repeat([]byte{3}, idSize), Sealed: json.RawMessage(`{"a":1}`), Recovery: []byte("r")}
)

func TestRoundTrip(t *testing.T) {
	b, err := encode(testHead, testKey, testFiles)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte("secret")) || bytes.Contains(b, []byte("node.yaml")) {
		t.Error("something of the content can be read")
	}
	h, files, err := decode(b, testKey)
	if err != nil || cmp.Diff(testHead, h) != "" || cmp.Diff(testFiles, files) != "" {
		t.Errorf("%v, %v, %v", h, files, err)
	}
	if again, _ := encode(testHead, testKey, testFiles); bytes.Equal(b, again) {
		t.Error("a nonce is used twice")
	}
	// Whatever bit is turned, whatever is cut off: nothing comes out.
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		if _, _, err := decode(c, testKey); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit of byte %d turned: %v", i, err)
		}
		if _, _, err := decode(b[:i], testKey); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if _, _, err := decode(b, make([]byte, KeySize)); !errors.Is(err, ErrDamaged) {
		t.Error("another key opens it")
	}
}

// golden was written by encode, once: boxes have such files.
const golden = "7477696e6b656570207661756c7420310a000000447b226964223a2241774d4441774d4441774d4441774d4441774d4441773d3d222c227365616c6564223a7b2261223a317d2c227265636f76657279223a2263673d3d227d4f3860778362259e45171a11e4a7ae99ad5ac93d80c43b15edbd2b35b8311ce5d32684c6128b05a9e615a5c6d10e0af2236aac49fdb25d6bb1fe37b0b48e59076a67f7a537bdfbb980f94027255641c5f659d80d905268fce3a843e3472e2e0a092eb1f5608c29c6edb5ddfca83770935cd571a1cdb7c318f8f86b17dc3c051ee266f9c155cc6acc16e87357a66f1339ff4a343d516699261fd2c73e556cf4"

func TestGolden(t *testing.T) {
	b, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	h, files, err := decode(b, testKey)
	if err != nil || cmp.Diff(testHead, h) != "" || cmp.Diff(testFiles, files) != "" {
		t.Errorf("%v, %v, %v", h, files, err)
	}
}

func TestPathsStayInside(t *testing.T) {
	for _, path := range []string{"/etc/passwd", "../x", "config/../../x", ""} {
		b, err := encode(testHead, testKey, []File{{path, 0o600, nil}})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := decode(b, testKey); !errors.Is(err, ErrDamaged) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestRecovery(t *testing.T) {
	r := NewRecovery()
	if len(r) != 39 || r == NewRecovery() {
		t.Errorf("recovery key %q", r)
	}
	h := testHead
	var err error
	if h.Recovery, err = wrap(r, h.ID, testKey); err != nil {
		t.Fatal(err)
	}
	for _, typed := range []string{r, strings.ToLower(r), strings.ReplaceAll(r, "-", " "), " " + strings.ReplaceAll(r, "-", "") + "\n", strings.ReplaceAll(r, "O", "0")} {
		if key, err := unwrap(typed, h); err != nil || !bytes.Equal(key, testKey) {
			t.Errorf("%q: %v", typed, err)
		}
	}
	if _, err := unwrap(NewRecovery(), h); !errors.Is(err, ErrRecovery) {
		t.Errorf("another one: %v", err)
	}
	for _, typed := range []string{"", r[:38], r + "A", "correct horse battery staple"} {
		if _, err := unwrap(typed, h); err == nil || errors.Is(err, ErrRecovery) {
			t.Errorf("%q: %v", typed, err)
		}
	}
	h.Recovery = h.Recovery[:10]
	if _, err := unwrap(r, h); !errors.Is(err, ErrDamaged) {
		t.Errorf("cut off: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	b, err := encode(testHead, testKey, testFiles)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(magic + "\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, _, err := decode(b, testKey)
		if err != nil {
			unwrap("AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA", h)
		}
	})
}
