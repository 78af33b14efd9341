// Package tpm is a TPM 2.0 in pure Go: the engine that a virtual machine's
// driver talks to, byte for byte, through one door.
//
// An Engine is one TPM. Execute runs one command and gives its response
// together with a Commit that says what must be durable before the response
// may leave. The engine has no disk, no socket and no clock of its own: the
// host hands it time and randomness in a Config and keeps its state.
//
// A command is one declaration and one handler in one file, cmd_<chapter>.go,
// after the chapters of Part 3; dispatch, authorization roles, parameter
// encryption and TPM_CAP_COMMANDS derive from the declarations.
//
// A handler works on the engine's state directly. The state is one Go value
// whose pointers lead only to things that are never changed in place, so a
// copy taken before the command undoes it whole: a command that fails, or
// whose write fails, has had no effect.
package tpm
