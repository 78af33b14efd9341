// Package bench compares with others that do the same job, in a module of its own
// for their dependencies: as a second opinion, and side by side on one machine.
package bench
