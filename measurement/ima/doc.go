// Package ima reads, replays and explains the log of Linux's Integrity
// Measurement Architecture: every file that was run, mapped or read under the
// kernel's policy, in the order in which it was measured into a PCR, by custom
// PCR 10.
//
// It reads the binary and the ASCII form that the kernel shows in
// /sys/kernel/security/ima, with the templates ima, ima-ng, ima-ngv2, ima-sig,
// ima-sigv2, ima-buf, ima-modsig, evm-sig and those made of their fields with
// ima_template_fmt=. ASCII lines are turned back into the bytes that the kernel
// hashed, so both forms replay alike.
//
// A log is only a claim: FindPrefix finds the part of it that a quoted PCR
// confirms. The PCR moves while evidence is collected, so the log read after a
// quote is often longer than what the quote covers; entries after the prefix
// are not confirmed by that quote.
//
// Parsed slices alias the input, which must not change afterwards. A Log is
// safe for concurrent readers.
package ima
