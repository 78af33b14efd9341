package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// worker is a guest that works with its TPM without pause: testdata/guest.s. What it
// writes to its serial port tells how often the TPM has acknowledged.
type worker struct {
	*guest
	serial string
}

// workerImage is the guest's image as a file.
func workerImage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/guest.hex")
	if err != nil {
		t.Fatal(err)
	}
	image, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	path := join(shortDir(t), "guest.bin")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWorkerImage assembles the guest anew.
func TestWorkerImage(t *testing.T) {
	needTools(t, "as", "ld")
	dir := shortDir(t)
	for _, args := range [][]string{
		{"as", "--32", "-o", join(dir, "o"), "testdata/guest.s"},
		{"ld", "-m", "elf_i386", "-Ttext", "0x100000", "--oformat", "binary", "-o", join(dir, "bin"), join(dir, "o")},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("%s cannot make i386 code: %v: %s", args[0], err, out)
		}
	}
	got, err := os.ReadFile(join(dir, "bin"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(workerImage(t))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("testdata/guest.hex is not made of testdata/guest.s: xxd -p -c 32 guest.bin > guest.hex")
	}
}

// startWorker starts the guest with its TPM's state in a directory of the caller's.
func startWorker(t *testing.T, state, device string, tpmArgs []string, more ...string) *worker {
	t.Helper()
	run := shortDir(t)
	w := &worker{serial: join(run, "serial")}
	args := append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + state,
		"--ctrl", "type=unixio,path=" + join(run, "ctrl"), "--terminate"}, tpmArgs...)
	w.guest = startGuestOn(t, swtpmCommand(t, args...), run, device,
		append([]string{"-kernel", workerImage(t), "-serial", "file:" + w.serial}, more...)...)
	return w
}

// acknowledged counts what the TPM has acknowledged to the guest.
func (w *worker) acknowledged() int {
	w.t.Helper()
	b, err := os.ReadFile(w.serial)
	if err != nil {
		w.t.Fatal(err)
	}
	if i := bytes.IndexByte(b, '!'); i >= 0 {
		w.t.Fatalf("the TPM refused command %d\n%s", i, w.tpm.errs)
	}
	return len(b)
}

// works waits until the guest has had n answers more.
func (w *worker) works(n int) {
	w.t.Helper()
	n += w.acknowledged()
	for end := time.Now().Add(60 * time.Second); w.acknowledged() < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("the guest does not work: %d answers\n%s%s", w.acknowledged(), w.qemu.errs, w.tpm.errs)
		}
	}
}

// person runs a monitor command that is for people.
func (w *worker) person(command string) {
	w.t.Helper()
	if says := w.ask("human-monitor-command", map[string]string{"command-line": command})["says"]; says != "" {
		w.t.Fatalf("%s: %s\n%s", command, says, w.tpm.errs)
	}
}

// moveTo moves the guest, as it works, to a worker that waits for it.
func (w *worker) moveTo(target *worker, socket string) {
	w.t.Helper()
	w.ask("migrate", map[string]string{"uri": "unix:" + socket})
	w.await("query-migrate", "completed")
	target.await("query-status", "running")
}

// wantExtended ends with the TPM in a directory: its PCR 8 was extended n times, or
// once more by what was not acknowledged yet.
func wantExtended(t *testing.T, state string, n int, options ...string) {
	t.Helper()
	run := shortDir(t)
	p := startProcess(t, swtpmCommand(t, append([]string{"socket", "--tpm2", "--tpmstate", "dir=" + state,
		"--flags", "startup-state", "--server", "type=unixio,path=" + join(run, "d")}, options...)...))
	rsp, err := tpm2.PCRRead{PCRSelectionIn: pcrSelection(8)}.Execute(wire{p.dial("unix", join(run, "d"))})
	if err != nil {
		t.Fatalf("%v: %s", err, p.errs)
	}
	got := rsp.PCRValues.Digests[0].Buffer
	pcr := make([]byte, sha256.Size)
	for i := 1; i <= n+1; i++ {
		sum := sha256.Sum256(append(pcr, bytes.Repeat([]byte{1}, sha256.Size)...))
		if pcr = sum[:]; i >= n && bytes.Equal(got, pcr) {
			return
		}
	}
	t.Errorf("PCR 8 was not extended %d times, nor once more", n)
}

// liveMigration runs f for both kinds of device.
func liveMigration(t *testing.T, f func(*testing.T, string)) {
	needTools(t, "qemu-system-x86_64")
	for _, device := range []string{"tpm-crb", "tpm-tis"} {
		t.Run(device, func(t *testing.T) { f(t, device) })
	}
}

// TestLiveMigration moves a guest that works with its TPM to another QEMU and swtpm,
// with a state directory of its own: no command is lost, and none is done twice.
func TestLiveMigration(t *testing.T) {
	liveMigration(t, func(t *testing.T, device string) { testLiveMigration(t, device, nil, nil) })
}

// TestLiveMigrationEncrypted does so between two whose states are encrypted, each under
// a key of its own, and on the way under a third.
func TestLiveMigrationEncrypted(t *testing.T) {
	liveMigration(t, func(t *testing.T, device string) {
		keys := shortDir(t)
		option := func(name, secret string) string {
			if err := os.WriteFile(join(keys, secret), []byte("the secret "+secret), 0o600); err != nil {
				t.Fatal(err)
			}
			return name + "=pwdfile=" + join(keys, secret) + ",mode=aes-256-cbc"
		}
		way := option("--migration-key", "way")
		testLiveMigration(t, device, []string{option("--key", "here"), way}, []string{option("--key", "there"), way})
	})
}

// testLiveMigration moves a guest from a TPM with options to one with others.
func testLiveMigration(t *testing.T, device string, here, there []string) {
	from, to, socket := shortDir(t), shortDir(t), join(shortDir(t), "in")
	source := startWorker(t, from, device, here)
	source.works(100)
	target := startWorker(t, to, device, there, "-incoming", "unix:"+socket)
	source.moveTo(target, socket)
	target.works(100)
	source.quit()
	target.quit()
	wantExtended(t, to, source.acknowledged()+target.acknowledged(), there...)
	state, err := os.ReadFile(join(to, "tpm2-00.ashlar"))
	if err != nil {
		t.Fatal(err)
	}
	if clear := bytes.Contains(state, []byte("ASHLARTS")); clear != (there == nil) {
		t.Errorf("the state is in clear: %v", clear)
	}
}

// TestLiveMigrationShared does so between two that share the state directory, to and
// fro, with a move in between that fails: the source takes its state back.
func TestLiveMigrationShared(t *testing.T) {
	liveMigration(t, func(t *testing.T, device string) {
		state, sockets := shortDir(t), shortDir(t)
		leave, arrive := []string{"--migration", "release-lock-outgoing"}, []string{"--migration", "release-lock-outgoing,incoming"}
		first := startWorker(t, state, device, leave)
		first.works(100)
		other := map[string]string{"tpm-crb": "tpm-tis", "tpm-tis": "tpm-crb"}[device]
		wrong := startWorker(t, state, other, arrive, "-incoming", "unix:"+join(sockets, "0"))
		first.ask("migrate", map[string]string{"uri": "unix:" + join(sockets, "0")})
		first.await("query-migrate", "completed", "failed")
		wrong.qemu.wait() // it cannot load another device
		wrong.tpm.wait()  // which has the lock until then; a command waits 3 s for it
		first.ask("cont", nil)
		first.works(100)

		second := startWorker(t, state, device, arrive, "-incoming", "unix:"+join(sockets, "1"))
		first.moveTo(second, join(sockets, "1"))
		second.works(100)
		first.quit()
		third := startWorker(t, state, device, arrive, "-incoming", "unix:"+join(sockets, "2"))
		second.moveTo(third, join(sockets, "2"))
		third.works(100)
		second.quit()
		third.quit()
		wantExtended(t, state, first.acknowledged()+second.acknowledged()+third.acknowledged())
	})
}

// TestSnapshots reverts a guest that works with its TPM to a snapshot of itself; that
// the TPM's state was replaced is in the log.
func TestSnapshots(t *testing.T) {
	needTools(t, "qemu-img")
	liveMigration(t, func(t *testing.T, device string) {
		state, disk := shortDir(t), join(shortDir(t), "disk")
		if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", disk, "1M").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		w := startWorker(t, state, device, []string{"--log", "file=" + join(state, "log")}, "-drive", "if=none,id=d,format=qcow2,file="+disk)
		w.works(100)
		w.ask("stop", nil)
		w.person("savevm one")
		kept := w.acknowledged()
		w.ask("cont", nil)
		w.works(100)
		w.ask("stop", nil)
		w.person("loadvm one")
		lost := w.acknowledged() - kept
		w.ask("cont", nil)
		w.works(100)
		w.quit()
		wantExtended(t, state, w.acknowledged()-lost)
		if log, _ := os.ReadFile(join(state, "log")); !strings.Contains(string(log), "was replaced by one that came in") {
			t.Errorf("log: %q", log)
		}
	})
}
