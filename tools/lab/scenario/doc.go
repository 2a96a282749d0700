// Package scenario builds labs of machines and switches and tells stories with them. Lab is the stage: segments,
// machines with their node files, agents, captures. Demo is the story of a power cut, Stories
// are further ones, told one after another in one lab and judged from the captures.
package scenario
