// Package libtpms reads and writes the state of libtpms 0.7 to 0.11
// (src/tpm2/NVMarshal.c): the permanent state that swtpm keeps in its file
// tpm2-00.permall, the volatile state of a running TPM, and what is inside the
// contexts that such a TPM has saved. It knows their form and nothing of what
// they mean: package tpm makes its own state of them, and the other way about.
//
// Both states are sections, each with a mark: u16 version, u32 magic and, from
// version 2 on, u16 the oldest reader's version. Where a newer writer may have
// more than an older reader knows there is a block: a flag, u16 its length, and
// the content.
//
// The permanent state has no digest, the volatile one a SHA-1. What is read is
// held to its structure as closely as libtpms writes it, so that most damage is
// found; a changed byte within a secret or an Index's data cannot be.
package libtpms
