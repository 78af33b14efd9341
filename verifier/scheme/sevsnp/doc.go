// Package sevsnp appraises Evidence of AMD SEV-SNP: the attestation report that
// the AMD Secure Processor signs for a guest (AMD 56860, SEV Secure Nested Paging
// Firmware ABI, section 7.3), in versions 2 to 5, of Milan, Genoa (with Bergamo
// and Siena) and Turin.
//
// The order of trust: a root (ARK) that is pinned here, or that the caller vouches
// for, certifies an ASK or ASVK; that, the chip's VCEK or a cloud provider's VLEK,
// for one TCB; that signs the report. The certificate's chip, product and TCB must
// be the report's. Only then are the report's fields believed, and compared with
// the nonce and the reference values.
//
// A guest may have a migration agent, a guest of the same chip that may move it.
// Its report, given beside the guest's, is appraised with it (agent.go).
//
// A report comes alone or with certificates behind it, as the kernel, go-sev-guest,
// snpguest, Trustee and Azure write them (forms.go). What lacks comes from the
// collateral cache.
package sevsnp
