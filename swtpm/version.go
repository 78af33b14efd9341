package swtpm

// Version is what the programs that stand in for swtpm and its tools answer to
// --version. What they can do is in their features, not in this number.
const Version = "0.1.0"
