package bundle

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/twinkeep/twinkeep/firmware/upgrade"
)

var (
	key   = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	other = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, 32))
	keys  = []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}
	image = bytes.Repeat([]byte("image"), 1000)
	rel   = upgrade.Release{Board: "generic-x86_64", Version: "v2", Revision: 2}
)

func file(t testing.TB, k ed25519.PrivateKey) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, rel, image, k); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The bytes of the format. A change here is a new format.
func TestGolden(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, rel, []byte("x"), key); err != nil {
		t.Fatal(err)
	}
	const want = "54574b555047310a" + "0000008b" +
		"7b22626f617264223a2267656e657269632d7838365f3634222c2276657273696f6e223a227632222c227265766973696f6e223a322c2273697a65223a312c22736861323536223a22" +
		"32643731313634326237323662303434303136323763613966626163333266356338353330666231393033636334646230323235383731373932316134383831227d"
	if got := hex.EncodeToString(b.Bytes()); !strings.HasPrefix(got, want) || len(got) != len(want)+2*(64+1) || !strings.HasSuffix(got, "78") {
		t.Errorf("got %s", got)
	}
}

func TestRead(t *testing.T) {
	f := file(t, key)
	r, err := Open(bytes.NewReader(append(f, "padding of a block device"...)), keys)
	if err != nil {
		t.Fatal(err)
	}
	if r.Candidate.Release != rel || r.Candidate.Size != int64(len(image)) {
		t.Errorf("%+v", r.Candidate)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, image) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestRefused(t *testing.T) {
	good := file(t, key)
	head := len(good) - len(image)
	flip := func(at int) []byte { b := bytes.Clone(good); b[at] ^= 1; return b }
	for _, tt := range []struct {
		name string
		file []byte
		want error
	}{
		{"empty", nil, ErrTruncated},
		{"another file", []byte("#!/bin/sh\necho hello, this is a shell script\n"), ErrFormat},
		{"manifest too long", append([]byte(magic), 0xff, 0xff, 0xff, 0xff), ErrFormat},
		{"cut in the manifest", good[:20], ErrTruncated},
		{"cut in the signature", good[:head-1], ErrTruncated},
		{"another key", file(t, other), ErrSignature},
		{"manifest changed", flip(30), ErrSignature},
		{"signature changed", flip(head - 1), ErrSignature},
		{"image changed", flip(head + 9), ErrImage},
		{"cut in the image", good[:len(good)-1], ErrTruncated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := Open(bytes.NewReader(tt.file), keys)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
	if _, err := Open(bytes.NewReader(good), nil); !errors.Is(err, ErrSignature) {
		t.Errorf("a box without keys: %v", err)
	}
}

func TestParseKeys(t *testing.T) {
	k, err := ParseKeys("# ours\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=  # old\n\n")
	if err != nil || len(k) != 1 {
		t.Errorf("%v, %v", k, err)
	}
	if _, err := ParseKeys("AAAA\n"); err == nil {
		t.Error("a short key is taken")
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(file(f, key))
	f.Add(file(f, other))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Open(bytes.NewReader(b), keys)
		if err != nil {
			return
		}
		got, err := io.ReadAll(r)
		if err == nil && !bytes.Equal(got, image) {
			t.Fatal("another image than the signed one is taken")
		}
	})
}
