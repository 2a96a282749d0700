// Package scenario builds labs of machines and switches and tells stories with them. Lab is the stage: segments,
// machines with their node files, agents, captures. Demo is the story of a power cut.
package scenario
