// Package sev appraises Evidence of AMD SEV and SEV-ES (AMD 55766, SEV API,
// version 0.24): the launch measurement, which only the guest's owner can check,
// and the attestation report, which anyone can.
//
// The owner's way: the owner checks the platform's certificates (PDH ← PEK ← CEK ←
// ASK ← ARK, in AMD's own format), seals a transport integrity key (TIK) for the
// PDH (NewSession), and has the guest launched with it. The firmware measures what
// was loaded, and authenticates the digest with the TIK, which no one else has.
// When it is the expected one, the owner's secret goes in (Session.Secret).
//
// The other way: the firmware signs nonce, launch digest and policy with the PEK.
//
// SEV protects the memory's secrecy, SEV-ES that of registers, too; neither, the
// memory's integrity. For that there is SEV-SNP (package sevsnp).
package sev
