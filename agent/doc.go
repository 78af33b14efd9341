// Package agent is the Attester: it collects Evidence where a TPM is, in a guest
// or against a TPM emulator's socket.
//
// An exchange has two steps. Identify says which Endorsement Key and Attestation
// Key the TPM has. A verifier answers with a challenge: a nonce, and a
// credential that only this TPM can open. Collect opens it, quotes the PCRs under
// the nonce, and gathers what explains them: the event log and the IMA log.
//
// Both keys are primary keys of the endorsement hierarchy, which a TPM derives
// anew from its seed each time: nothing is kept between the steps, and nothing
// is left behind in the TPM. The hierarchy's authorization must be empty, as it
// is unless an administrator set it.
package agent
