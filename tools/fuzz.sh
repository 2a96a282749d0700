#!/bin/sh
# fuzz.sh TIME: runs every fuzz target of the tree for TIME each, one after the other.
set -eu
time=${1:-20s}
for pkg in $(go list ./...); do
	for f in $(go test -list '^Fuzz' "$pkg" 2>/dev/null | grep '^Fuzz' || true); do
		echo "== $pkg $f"
		go test "$pkg" -run '^$' -fuzz "^$f\$" -fuzztime "$time" -fuzzminimizetime 10x
	done
done
