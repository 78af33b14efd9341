// Package swtpm is the outside of a TPM as swtpm shows it: the control
// channel, the data channel, the simulator's two ports, and the state files.
// QEMU, libvirt, tpm2-tools and swtpm's own tools talk to it unchanged.
//
// A [Host] is the machine around one engine: it gives it power, a locality
// and a disk, and releases an answer only when the state behind it is
// durable. A [Server] puts a Host on sockets.
//
// # Channels
//
// The control and the data channel are served by different goroutines, so a
// command that runs can be cancelled. Each channel serves one client at a
// time; the next waits until the first is gone, as with swtpm. One read is
// one command: what does not fit its size field is answered with an error at
// once. Buffers are fixed for each connection; nothing a peer sends makes
// them grow, save the data of SET_STATEBLOB, which may be 2 MiB at most.
//
// # Differences to swtpm
//
//   - State files are "tpm2-00.ashlar" and "tpm2-00.ashlar-volatile". A state
//     that swtpm left in the same directory is taken over where there is none of
//     ours, and never touched.
//   - What a key encrypts is in the form of internal/seal. A passphrase opens it
//     whatever kdf= and mode= say.
//   - SET_STATEBLOB refuses a state it cannot read before anything is
//     written.
//   - After STORE_VOLATILE, or GET_STATEBLOB of the volatile state, no
//     automatic Shutdown is sent unless a command came in between: the saved
//     volatile state would no longer fit the permanent one.
//   - The simulator's prefix on the data channel sets the locality of its own
//     command only, and is not taken on a character device.
//   - The lock on the state is given up with the last state blob only where that
//     was asked for, as swtpm's manual says; swtpm gives it up always.
package swtpm
