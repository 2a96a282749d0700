// Package kernel takes a distribution's kernel package apart: the kernel
// itself, an uncompressed vmlinux for virtual machines, and the modules that a
// list names with everything they need. It needs no root.
package kernel
