// Package node is the node file: the one YAML document that says what a member of the cluster is. It holds the
// model, a strict parser and the semantic checks.
//
// Parsing is total: every fault of the file is reported in one pass, each with its line, its column and what to do
// about it. A file with a fault is not used at all, in part or in whole.
package node
