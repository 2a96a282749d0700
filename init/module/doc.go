// Package module loads kernel modules from the image.
//
// The image builder resolves everything that can be resolved beforehand
// (files, dependencies, soft dependencies, aliases) into one text file, the
// index. What is left for PID 1 is finit_module(2) in the right order: a
// modules.dep, modules.alias and modules.softdep parser would be code that
// runs at every boot to compute the same answer.
package module
