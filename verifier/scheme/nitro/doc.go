// Package nitro appraises attestation documents of AWS Nitro Enclaves: what the
// Nitro Security Module of a host says of an enclave. A document is a COSE_Sign1
// message over CBOR, signed with ES384 by a certificate of three hours that leads
// to the AWS Nitro Enclaves root. The format is that of AWS's
// aws-nitro-enclaves-nsm-api, docs/attestation_process.md.
package nitro
