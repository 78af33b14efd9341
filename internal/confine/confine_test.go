//go:build linux && (amd64 || arm64)

package confine

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseAction(t *testing.T) {
	for _, a := range []Action{None, Log, Kill} {
		if got, err := ParseAction(string(a)); got != a || err != nil {
			t.Errorf("%s: %s, %v", a, got, err)
		}
	}
	if _, err := ParseAction("maim"); err == nil || !strings.Contains(err.Error(), "maim") {
		t.Errorf("maim: %v", err)
	}
}

// judge runs a filter as the kernel does.
func judge(t *testing.T, p []unix.SockFilter, arch, call uint32, args ...uint64) uint32 {
	t.Helper()
	data := map[uint32]uint32{offsetCall: call, offsetProcessor: arch}
	for i, a := range args {
		data[offsetArguments+8*uint32(i)] = uint32(a)
	}
	var acc uint32
	for i := 0; i < len(p); i++ {
		switch op := p[i]; op.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = data[op.K]
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= op.K
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			if acc == op.K {
				i += int(op.Jt)
			} else {
				i += int(op.Jf)
			}
		case unix.BPF_RET | unix.BPF_K:
			return op.K
		default:
			t.Fatalf("operation %#x", op.Code)
		}
	}
	t.Fatal("the filter has no end")
	return 0
}

// TestFilter compares the filter with the list for every number of a call.
func TestFilter(t *testing.T) {
	const pid, deny, allow = 77, 0x80000000, unix.SECCOMP_RET_ALLOW
	list := rules(pid)
	p, err := program(list, deny)
	if err != nil {
		t.Fatal(err)
	}
	byCall := map[uint32]rule{}
	for _, r := range list {
		if _, twice := byCall[r.call]; twice {
			t.Errorf("call %d is on the list twice", r.call)
		}
		byCall[r.call] = r
	}
	for call := range uint32(1024) {
		r, ok := byCall[call]
		args := make([]uint64, 6)
		args[r.argument] = uint64(r.value)
		want := uint32(deny)
		if ok {
			want = allow
		}
		if got := judge(t, p, processor, call, args...); got != want {
			t.Errorf("call %d: %#x, want %#x", call, got, want)
		}
		if got := judge(t, p, processor^1, call, args...); got != deny {
			t.Errorf("call %d of another processor: %#x", call, got)
		}
		if got := judge(t, p, processor, call|1<<30, args...); got != deny {
			t.Errorf("call %d of x32: %#x", call, got)
		}
		if args[r.argument] ^= uint64(r.mask); r.mask != 0 {
			if got := judge(t, p, processor, call, args...); got != deny {
				t.Errorf("call %d with another argument: %#x", call, got)
			}
		}
	}
	if _, err := program(make([]rule, 300), deny); err == nil {
		t.Error("a list that jumps cannot cross is taken")
	}
}

// notAfterStart are calls in the runtime's sources that it makes before main, or
// never here.
var notAfterStart = map[string]string{
	"ARCH_PRCTL":   "the first thread's storage; clone sets that of others",
	"BRK":          "32-bit systems' memory at start",
	"MINCORE":      "the page size at start, where the kernel does not tell it",
	"SOCKET":       "Android's log",
	"CONNECT":      "Android's log",
	"FACCESSAT":    "Android's log",
	"PIPE2":        "the runtime's own tests",
	"SETITIMER":    "profiling",
	"TIMER_CREATE": "profiling", "TIMER_SETTIME": "profiling", "TIMER_DELETE": "profiling",
}

// TestRuntimeIsOnTheList reads what system calls the runtime of this Go has, on
// both processors, and wants each on the list or excused: a new version must not
// find out by being killed.
func TestRuntimeIsOnTheList(t *testing.T) {
	own, err := os.ReadFile("calls_linux.go")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile(`unix\.SYS_(\w+)`).FindAllSubmatch(own, -1) {
		listed = append(listed, string(m[1]))
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, arch := range []string{"amd64", "arm64"} {
		n := 0
		for _, file := range []string{"runtime/sys_linux_" + arch + ".s", "internal/runtime/syscall/linux/defs_linux_" + arch + ".go"} {
			src, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "src", file))
			if err != nil {
				t.Skipf("the sources of Go are missing: %v", err)
			}
			for _, m := range regexp.MustCompile(`(?m)^(?:#define|\t) *SYS_(\w+)\s`).FindAllSubmatch(src, -1) {
				name := strings.ToUpper(string(m[1]))
				if name == "SETITTIMER" { // as it is written there
					name = "SETITIMER"
				}
				n++
				found[name] = true
				if !slices.Contains(listed, name) && notAfterStart[name] == "" {
					t.Errorf("%s: %s is neither on the list nor excused", file, name)
				}
			}
		}
		if n < 40 {
			t.Errorf("%s: only %d system calls were found in the runtime's sources", arch, n)
		}
	}
	for name := range notAfterStart {
		if !found[name] {
			t.Errorf("%s is excused, and the runtime does not have it", name)
		}
		if slices.Contains(listed, name) {
			t.Errorf("%s is excused, and on the list", name)
		}
	}
}

// TestRuleset holds what each version of Landlock is asked for.
func TestRuleset(t *testing.T) {
	for _, c := range []struct {
		version, errata int
		fs, net, scoped uint64
	}{
		{1, 0, 1<<13 - 1, 0, 0},
		{2, 0, 1<<14 - 1, 0, 0},
		{3, 0, 1<<15 - 1, 0, 0},
		{4, 0, 1<<15 - 1, 3, 0},
		{5, 0, 1<<16 - 1, 3, 0},
		{6, 0, 1<<16 - 1, 3, 1},
		{6, 2, 1<<16 - 1, 3, 3},
		{7, 3, 1<<16 - 1, 3, 3},
		{99, 7, 1<<16 - 1, 3, 3},
	} {
		if a := ruleset(c.version, c.errata); a.Handled_access_fs != c.fs || a.Handled_access_net != c.net || a.Scoped != c.scoped {
			t.Errorf("version %d, errata %d: %+v", c.version, c.errata, a)
		}
	}
}
