// Package psa appraises PSA attestation tokens (RFC 9783, and its forerunner
// PSA_IOT_PROFILE_1): what the root of trust of an Arm device says of its
// software. Claims reads their claims, and those of an Arm CCA platform, which
// share most of them.
package psa
