// Package tpm2 holds the constants, structures and response codes of the
// Trusted Platform Module Library, Part 2 (revision 1.59, with the additions
// of 1.83 and 1.84), and the codec that carries them to and from the wire.
//
// Every structure has one Walk method that serves both directions: the same
// list of fields reads a structure from bytes and writes it back. Decoding is
// as strict as a TPM's: a wrong selector, a reserved bit, an oversize list or
// a short buffer gives the response code of Part 2, and nothing is guessed.
// Decoded byte slices alias the input; copy what is kept.
//
// Names drop the specification's prefixes: TPMT_PUBLIC is Public,
// TPM_ALG_SHA256 is AlgSHA256, TPM_RC_VALUE is RCValue. The doc comment of
// each type gives the name and section in Part 2.
package tpm2
