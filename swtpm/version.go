package swtpm

// Version is that of the project, by semantic versioning, 2.0.0: what all programs
// answer to --version, and what packages and CHANGELOG.md are named after. What the
// programs can do is in the features that they print, not in this number.
const Version = "0.1.0-dev"
