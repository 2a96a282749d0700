package upgrade

// MaxImage bounds an image in bytes: three of them fit on the EFI system
// partition. Debian does not compress its kernel for this architecture.
const MaxImage = 50 << 20
