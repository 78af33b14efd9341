// Package tpm appraises Evidence of a TPM 2.0: quotes, the event log and the IMA
// log that explain them, the Attestation Key (AK) and its bond to an Endorsement
// Key (EK).
//
// Evidence comes as a bundle (see Bundle), or as single files in the forms that
// others write: tpm2-tools, go-attestation, go-tpm-tools, Keylime, immune Guard.
// Appraise examines it claim by claim. What cannot be examined is said to be
// unchecked and never counts as holding; what fails says what was expected, what
// was found, and why in one sentence: the event with its number and PCR, the
// file with its path.
//
// The order of trust: the signature and the nonce make the quote's digest
// authentic; that digest makes PCR values authentic, whoever supplied them; the
// PCR values make the logs' digests authentic; those are compared with the
// reference values. A log's texts are shown, but only digests are believed.
package tpm
