// Package sevlaunch computes the launch digest of a virtual machine under AMD SEV,
// SEV-ES and SEV-SNP before it is ever launched: from its firmware (OVMF), the
// number and kind of its processors, who launches it, and, where the firmware
// measures them, kernel, initrd and command line.
//
// SEV digests with SHA-256 what is loaded, in order (AMD 55766, section 6.3):
// firmware, the table of the kernel's hashes, under SEV-ES the saved state of each
// processor (VMSA). SEV-SNP chains a SHA-384 for each page (AMD 56860, section
// 8.17): firmware, the pages that its metadata asks for, the VMSAs.
//
// What QEMU, AWS and Google each put into a VMSA and in which order they add
// pages is theirs, and may change with their versions.
package sevlaunch
