// Package crypt is the engine's cryptography: what Part 1 of the TPM 2.0
// Library defines over the algorithms of the standard library, without any
// knowledge of commands, sessions or hierarchies.
//
//   - Derivations: KDFa, KDFe, HMAC, XORObfuscate, EncryptParameter.
//   - Block cipher modes for EncryptDecrypt: Encrypt, Decrypt.
//   - Keys: NewKey parses and checks a loaded object's areas once; CreateObject
//     makes those of a new object, from randomness or, for a primary object,
//     from the generator that NewPrimaryDRBG seeds.
//   - Curves: CurveOf, with every curve of the algorithm registry; Multiply,
//     Ephemeral.
//   - Schemes: SignDigest, SignECDAA, VerifySignature, SelectSignScheme,
//     RSAEncrypt, RSADecrypt, SelectDecryptScheme.
//   - Secrets: SecretEncrypt and SecretDecrypt exchange a seed with a key's
//     owner; Protection wraps and unwraps what is stored outside, with
//     SensitiveToPrivate, SensitiveToDuplicate and SecretToCredential on top.
//   - Self-tests: a known-answer test per algorithm, see Tests and TestableAlgs.
//
// Primary keys are derived exactly as the TCG reference code (and with it
// libtpms) derives them, so that a state taken over from swtpm keeps its keys.
//
// Functions report what a command answers as a tpm2.RC without handle or
// parameter number; the command puts that on. Random bytes come from a reader
// that the caller passes. Nothing here is package state, save tables that never
// change.
package crypt
