package ccp

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzFrame: any bytes give a value or a Reason, never a panic; what parses, appends to an equal frame again.
func FuzzFrame(f *testing.F) {
	for _, g := range goldens {
		f.Add(AppendFrame(nil, sampleEnvelope, seal(f, g.message)))
	}
	k := key(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, p, err := ParseFrame(b)
		if err != nil {
			isReason(t, err)
			return
		}
		if len(p) > MaxPayload {
			t.Fatalf("payload of %d bytes", len(p))
		}
		e2, p2, err := ParseFrame(AppendFrame(nil, e, p))
		if err != nil || e2 != e || !bytes.Equal(p2, p) {
			t.Fatalf("again: %v, %+v, %x; first %+v, %x", err, e2, p2, e, p)
		}
		if _, err := open(k, p); err != nil {
			isReason(t, err)
		}
	})
}

// FuzzPacket: any bytes give a value or a Reason, never a panic; what parses, appends to the same bytes again.
func FuzzPacket(f *testing.F) {
	for _, g := range goldens {
		p := packet(g.message)
		f.Add(p.Append(nil))
		p.Extension = []byte("x")
		f.Add(p.Append(nil))
	}
	k := key(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			isReason(t, err)
			return
		}
		if again := p.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("parsed\n%x\nappended\n%x", b, again)
		}
		if _, err := decode(k, AppendFrame(nil, sampleEnvelope, k.Seal(bytes.Clone(b)))); err != nil {
			t.Fatalf("signed: %v", err)
		}
	})
}

func isReason(t *testing.T, err error) {
	t.Helper()
	if r := Reason(""); !errors.As(err, &r) {
		t.Fatalf("error %v is no Reason", err)
	}
}
