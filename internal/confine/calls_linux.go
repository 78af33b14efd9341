//go:build linux && (amd64 || arm64)

package confine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rule allows a system call: always, or where an argument, of which the kernel
// looks at 32 bits only, has a value in the bits of a mask.
type rule struct {
	call     uint32
	argument int
	mask     uint32 // 0 = whatever the arguments
	value    uint32
}

// anyThread are the flags of clone(2) with which Go's runtime makes a thread on all
// processors (runtime/os_linux.go). Others make a process.
const anyThread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD

// rules is the list: of the Go runtime, and of a program that reads, writes,
// renames and removes files, accepts connections, and receives them by SCM_RIGHTS.
// Which files is for keepFiles to say, since a filter cannot look at a path. The most
// frequent are first: kernels before 5.11 go through the list.
func rules(pid int) []rule {
	always := []uint32{
		unix.SYS_FUTEX, unix.SYS_READ, unix.SYS_WRITE, unix.SYS_EPOLL_PWAIT, unix.SYS_NANOSLEEP,
		unix.SYS_PWRITE64, unix.SYS_FDATASYNC, unix.SYS_GETRANDOM, unix.SYS_MADVISE, unix.SYS_SCHED_YIELD,

		// Memory, threads, signals and time.
		unix.SYS_MUNMAP, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_GETPID, unix.SYS_GETTID,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
		unix.SYS_RESTART_SYSCALL, unix.SYS_CLOCK_GETTIME, unix.SYS_SCHED_GETAFFINITY, unix.SYS_UNAME,

		// Descriptors.
		unix.SYS_EPOLL_CREATE1, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_PWAIT2, unix.SYS_EVENTFD2,
		unix.SYS_CLOSE, unix.SYS_DUP, unix.SYS_DUP3, unix.SYS_FCNTL, unix.SYS_READV, unix.SYS_WRITEV,
		unix.SYS_PPOLL,

		// Files.
		unix.SYS_OPENAT, unix.SYS_PREAD64, unix.SYS_LSEEK, unix.SYS_FSTAT, unix.SYS_NEWFSTATAT, unix.SYS_FSYNC,
		unix.SYS_FTRUNCATE, unix.SYS_FALLOCATE, unix.SYS_FCHMOD, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2, unix.SYS_UNLINKAT,

		// Connections that are there, or come to a listener that is there.
		unix.SYS_ACCEPT4, unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SHUTDOWN,
		unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_GETSOCKOPT, unix.SYS_SETSOCKOPT,
	}
	list := make([]rule, 0, len(always)+6)
	for _, call := range always {
		list = append(list, rule{call: call})
	}
	return append(list,
		rule{unix.SYS_MMAP, 2, unix.PROT_EXEC, 0}, // no new code
		rule{unix.SYS_MPROTECT, 2, unix.PROT_EXEC, 0},
		rule{unix.SYS_CLONE, 0, ^uint32(0), threadFlags},
		rule{unix.SYS_TGKILL, 0, ^uint32(0), uint32(pid)}, // no signal to others
		rule{unix.SYS_KILL, 0, ^uint32(0), uint32(pid)},
		rule{unix.SYS_PRCTL, 0, ^uint32(0), unix.PR_SET_VMA}, // names of mappings
	)
}

// Fields of the kernel's struct seccomp_data, of which the arguments are 64 bits
// each with the lower half first.
const (
	offsetCall      = 0
	offsetProcessor = 4
	offsetArguments = 16
)

// Where the jumps of a program lead before their distance is known.
const (
	toDeny  = 254
	toAllow = 255
)

// program is the filter that allows what is on a list and answers everything else,
// calls of another processor's table among it, with the action deny. A list may
// have about 200 rules.
func program(list []rule, deny uint32) ([]unix.SockFilter, error) {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	equal := func(value uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: value}
	}
	p := []unix.SockFilter{load(offsetProcessor), equal(processor, 0, toDeny), load(offsetCall)}
	for _, r := range list {
		if r.mask == 0 {
			p = append(p, equal(r.call, toAllow, 0))
			continue
		}
		p = append(p, equal(r.call, 0, 3),
			load(offsetArguments+8*uint32(r.argument)),
			unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: r.mask},
			equal(r.value, toAllow, toDeny))
	}
	end := len(p)
	if end >= toDeny {
		return nil, errors.New("the list of system calls is too long for a filter")
	}
	for i := range p {
		for _, jump := range []*uint8{&p[i].Jt, &p[i].Jf} {
			if *jump == toDeny || *jump == toAllow {
				*jump = uint8(end - i - 1 + int(*jump-toDeny))
			}
		}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	return append(p, answer(deny), answer(unix.SECCOMP_RET_ALLOW)), nil
}

// keepCalls lets all threads of the process make the system calls only that are on
// the list, and does a to who makes another one.
func keepCalls(a Action) error {
	if a == None {
		return nil
	}
	deny := uint32(unix.SECCOMP_RET_KILL_PROCESS)
	if a == Log {
		deny = unix.SECCOMP_RET_LOG
	}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&deny))); e != 0 {
		return lack("the kernel has no filters of system calls: the program keeps them all")
	}
	filter, err := program(rules(os.Getpid()), deny)
	if err != nil {
		return err
	}
	prog := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// Where another thread cannot be had, its number is the answer.
	thread, _, e := syscall.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(prog)))
	runtime.KeepAlive(prog)
	switch {
	case e != 0:
		return fmt.Errorf("the filter of system calls cannot be put in force: %w", e)
	case thread != 0:
		return fmt.Errorf("the filter of system calls cannot be put in force for thread %d", thread)
	}
	return nil
}
