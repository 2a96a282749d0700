// Package kernel takes a distribution's kernel package apart: the kernel
// itself, an uncompressed vmlinux for virtual machines, and the modules that a
// list names with everything they need. Or it builds a kernel of our own from
// the distribution's sources. It needs no root.
package kernel
