// Package guest makes and drives a small real virtual machine: a Debian kernel,
// unpacked but never installed, booted through OVMF under QEMU with a TPM behind
// tpm-crb or tpm-tis, and an initramfs with a static busybox and our own attester.
//
// The firmware and the kernel's EFI stub measure the whole boot into the TPM:
// the kernel into PCR 4, its command line and the initramfs into PCR 9. The first
// program in the initramfs loads an IMA policy that measures every program run,
// also from memory file systems, into PCR 10.
//
// QEMU writes the initramfs's address and size into the kernel's header, so the
// measurement of the kernel holds for one initramfs.
//
// The host talks to the guest over a second serial port with three verbs, put, run
// and get, as an operator would on a console. Nothing that is decided about the
// guest rests on that line: what counts is what its TPM signs.
package guest
