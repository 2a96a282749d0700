//go:build !arm64

package upgrade

// MaxImage bounds an image in bytes: three of them fit on the EFI system
// partition.
const MaxImage = 40 << 20
