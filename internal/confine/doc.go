// Package confine takes from this process, for ever, what it does not need once
// its files and sockets are open. Whoever gets it to run foreign code finds
// little to do with it: no other file, program, connection or process.
//
// Three things do that, each of which holds where another one is missing:
//
//   - the process itself: no core dump, no debugger of the same user, no capability,
//     and no way to more rights;
//   - Landlock: the file system but for the directories that are named, new TCP
//     connections, signals to others and their abstract sockets;
//   - seccomp: the system calls but for those of the Go runtime and of who serves
//     open sockets and files.
//
// All of it is done with the system calls of golang.org/x/sys. The modules that
// do the same bring cgo or tables of every processor into a program that is to
// hold little.
//
// A program with cgo in it has threads that Go does not know and cannot change; it
// stays as it is but for core dumps.
package confine

import "fmt"

// Plan says what a process keeps.
type Plan struct {
	// Dirs are the directories in which files may be read, written, made, renamed
	// and removed.
	Dirs []string
	// Files are files, or disks, that may be read and written. They must be there.
	Files []string
	// Remove are files that may be removed, and with them all others in their
	// directories and below.
	Remove []string
	// Calls is what becomes of a process that makes a system call which is not on
	// the list.
	Calls Action
	// Insist makes it an error where there can be no list.
	Insist bool
}

// lack is what the kernel, or this build of the program, cannot do: what, and what
// that means. Nothing was changed then.
type lack string

// Error implements error.
func (l lack) Error() string { return string(l) }

// Action is what becomes of a process that makes a system call which is not on
// the list.
type Action string

// The actions have the names that swtpm gives them.
const (
	None Action = "none" // there is no list
	Log  Action = "log"  // the kernel's log tells of it, the call is made
	Kill Action = "kill" // the whole process ends by SIGSYS
)

// ParseAction finds an action by its name.
func ParseAction(name string) (Action, error) {
	switch a := Action(name); a {
	case None, Log, Kill:
		return a, nil
	}
	return "", fmt.Errorf("'%s' is not %s, %s or %s", name, None, Log, Kill)
}
