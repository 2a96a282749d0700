// Package license holds the licence of a member: its file, the keys it is believed by, and the machine that decides from it
// whether the member may serve or is in lockdown. It is pure: no socket, file, clock or goroutine. The edges are in its
// subfolders: store (files), lockdown (the kernel), contact (the licence server).
//
// The rules are after Clavister's (reference/vendors.md, section 1.10); where they differ, docs/decisions/0060 says why.
package license
