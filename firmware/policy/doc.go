// Package policy is the policy: one YAML document that says what a whole cluster does. It holds the model, a strict
// parser, the checks, the JSON Schema, and what one member makes of the document.
//
// Parsing is total: every fault of the document is reported in one pass, each with its line, its column and what to do
// about it. A document with a fault is not used at all, in part or in whole.
package policy
