// Package cca appraises attestation tokens of Arm's Confidential Compute
// Architecture: what a Realm's manager says of the Realm, and what the platform's
// root of trust says of the manager. The format is that of Arm's RMM
// specification (DEN0137), A7.2; a claim of the platform's token binds the two.
package cca
