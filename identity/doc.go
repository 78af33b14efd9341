// Package identity ties keys to TPMs: an Attestation Key (AK) to the
// Endorsement Key (EK) of the TPM it lives in, by credential activation
// (Part 1, 24), and an EK to its maker, by its certificate (TCG EK Credential
// Profile 2.5).
//
// Activation goes so: the verifier encrypts a secret to the EK and the AK's
// Name with MakeCredential; TPM2_ActivateCredential gives the secret only on
// the TPM that holds both; the verifier compares what comes back with
// Challenge.Answered.
//
// IssueCertificate makes certificates of a TPM's keys, as swtpm_cert does, by a
// CA that NewAuthority may have made.
package identity
