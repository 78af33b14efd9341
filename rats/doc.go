// Package rats holds the messages of remote attestation in the words of RFC
// 9334 (Remote ATtestation procedureS): Evidence, Endorsements, Reference
// Values, Attestation Results and the nonce that makes Evidence fresh.
//
// An Attestation Result is carried as an EAR (EAT Attestation Result), a JWT
// signed by the Verifier, with trust tiers and trustworthiness vectors of AR4SI
// (Attestation Results for Secure Interactions). EAR exists in two dialects:
//
//   - the deployed one, claims spelt "ear.status", profiles
//     "tag:github.com,2023:veraison/ear" and
//     "tag:github.com,2024:confidential-containers/Trustee";
//   - draft-ietf-rats-ear-03, claims spelt "ear_status", profile
//     "tag:ietf.org,2026:rats/ear#03".
//
// Sign writes the deployed dialect; Verify and Parse read both. One extension
// claim is this project's own, "ashlar.claims": the list of single claims that
// the Verifier examined, each with what was expected, what was found and why it
// did not hold, so that a refusal names its cause.
package rats
