// Package eventlog reads, replays and explains the TCG event log: the list of
// what firmware, boot loaders and kernels measured into the PCRs before the
// operating system took over.
//
// It speaks the legacy SHA-1 format and the crypto-agile one of the TCG PC
// Client Platform Firmware Profile (PFP, revision 1.06), with any set of
// digest algorithms: those that cannot be computed here are carried along by
// the size that the log's header states.
//
// A log is only a claim. Replay turns it into PCR values, which a quote then
// confirms or refutes; what a confirmed log proves is its digests, not the
// data beside them. Binding says for each event whether its digest is of the
// data that the log shows, and Check lists everything that is malformed or
// does not fit. SecureBoot and other readers of event data use bound events
// only.
//
// Parsed slices alias the input, which must not change afterwards. A Log is
// safe for concurrent use.
package eventlog
