// Package console is the operator's command tree. The same commands serve the shell of a developer's machine
// (twinkeep ha) and the interactive console of the box (gw-a:/> ha), where ? at any place shows what can follow.
//
// Commands are named as those of the systems this one learns from: ha, ifstat, conn from Clavister's, cluster state
// from Check Point's. A long flag may be written with one dash, as in ha -activate.
package console
