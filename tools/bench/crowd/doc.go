// Package crowd is many connections from one namespace to another through a gateway pair, which tell afterwards whether
// they live and where they come out: TCP and UDP through SNAT and through DNAT, ICMP, and FTP in active mode.
package crowd
