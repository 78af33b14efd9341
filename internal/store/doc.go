// Package store keeps the saved states of a TPM in a directory: load, and
// compare-and-swap of a whole state, so that a state once acknowledged
// survives a killed process, a lost power supply and a full disk.
//
// # The file
//
// A state file is two slots of equal size. A swap writes the slot that does
// not hold the current state and then calls fdatasync once; the current state
// is never touched. The blocks exist already, so nothing but data goes to the
// disk: no directory entry, no allocation, no journal commit. That is what
// makes a durable NV write about as fast as a rename that is not synced.
//
// Every 512-byte sector carries the number of the write it belongs to and a
// CRC over itself. A disk replaces a sector wholly or not at all, so after a
// crash each sector is valid by itself and a torn slot shows as one whose
// sectors carry different numbers; the other slot then holds the state. A
// sector whose CRC is wrong cannot come from a crash: the file was altered,
// and is refused. So is a file whose size is not what its slots say. A file
// that is refused is never written.
//
// What is found when a file is loaded may not be durable: a process can be killed before
// it has synced what it wrote, and a kernel takes what it failed to write for written.
// The first swap after a load therefore writes the current slot once more and syncs it,
// and the directory, before it writes the other one.
//
// Before each write the file is opened anew and looked at: where it is not as this
// process left it, a lock was lost, and nothing is written over what another process has
// acknowledged. The lock is a record lock of the open file (F_OFD_SETLK), which excludes
// swtpm's (F_SETLK), and which NFS, CephFS and GFS2 know between hosts.
//
// A state that outgrows its slots, and a new one, go the classic way: a
// temporary file, fsync, rename, fsync of the directory.
//
// # One file
//
// OpenSingle keeps several states in one file, or on a disk: a first sector that says
// which are there, and room for a state file of each that never grows. A backup, by
// contrast, is a second state file beside the first, against what no crash explains.
//
// The CRC finds torn and damaged files, not forged ones; versions and digests
// of the state itself belong to who wrote it.
package store
