// Package ukitest has what tests build unified kernel images from.
package ukitest

import "encoding/binary"

// Stub is a PE32+ file for x86-64 with one section and headers of so many bytes, at least 0x200. Nothing can run it.
func Stub(headers uint32) []byte {
	b := make([]byte, headers+0x200)
	copy(b, "MZ")
	le := binary.LittleEndian
	le.PutUint32(b[0x3c:], 0x40)
	copy(b[0x40:], "PE\x00\x00")
	le.PutUint16(b[0x44:], 0x8664)
	le.PutUint16(b[0x46:], 1)
	le.PutUint16(b[0x54:], 240)
	opt := b[0x58:]
	le.PutUint16(opt, 0x20b)
	le.PutUint32(opt[32:], 0x200)
	le.PutUint32(opt[36:], 0x200)
	le.PutUint32(opt[56:], 0x2000)
	le.PutUint32(opt[60:], headers)
	le.PutUint32(opt[108:], 16)
	s := b[0x58+240:]
	copy(s, ".text")
	le.PutUint32(s[8:], 0x1f3)
	le.PutUint32(s[12:], 0x1000)
	le.PutUint32(s[16:], 0x200)
	le.PutUint32(s[20:], headers)
	return b
}
