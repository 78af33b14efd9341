package guest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// box is a guest that keeps keys in its TPM. It has no firmware that measures the
// initramfs, which is large.
type box struct {
	t      *testing.T
	dir    string // of the sockets and the console
	tpm    *tpmProcess
	qemu   *exec.Cmd
	exited chan struct{}
	line   *Line
	qmp    net.Conn
	events *bufio.Scanner
}

// startBox starts a guest whose TPM is that of a program on a directory; more are
// options of QEMU.
func startBox(t *testing.T, host Host, kernel, initrd, program, state string, more ...string) *box {
	t.Helper()
	dir, err := os.MkdirTemp("", "box")
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, dir: dir, exited: make(chan struct{})}
	t.Cleanup(func() {
		b.kill()
		os.RemoveAll(dir)
	})
	if b.tpm, err = startTPM(t.Context(), program, state, dir, filepath.Join(dir, "tpm.log")); err != nil {
		t.Fatal(err)
	}
	b.qemu = exec.Command(host.QEMU, append([]string{
		"-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "512", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-chardev", "socket,id=tpm,path=" + b.tpm.socket, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1",
		"-serial", "file:" + filepath.Join(dir, "console"),
		"-chardev", "socket,id=line,server=on,wait=off,path=" + filepath.Join(dir, "line"), "-serial", "chardev:line",
		"-qmp", "unix:" + filepath.Join(dir, "qmp") + ",server=on,wait=off"}, more...)...)
	said := &strings.Builder{}
	b.qemu.Stderr = said
	if err := b.qemu.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = b.qemu.Wait()
		close(b.exited)
	}()
	b.line = NewLine(b.dial("line"))
	b.qmp = b.dial("qmp")
	b.events = bufio.NewScanner(b.qmp)
	b.ask("qmp_capabilities", nil)
	return b
}

func (b *box) dial(name string) net.Conn {
	b.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("unix", filepath.Join(b.dir, name))
		if err == nil {
			b.t.Cleanup(func() { conn.Close() })
			return conn
		}
		if time.Now().After(end) {
			b.fatal("QEMU does not start: %v", err)
		}
	}
}

// fatal ends the test with what guest and TPM have said.
func (b *box) fatal(format string, args ...any) {
	b.t.Helper()
	console, _ := os.ReadFile(filepath.Join(b.dir, "console"))
	log, _ := os.ReadFile(filepath.Join(b.dir, "tpm.log"))
	b.t.Fatalf("%s\n%s\n%s\n%v", fmt.Sprintf(format, args...), console, log, b.qemu.Stderr)
}

// ask runs a command of QEMU's monitor and gives the status that it returns, if any.
func (b *box) ask(command string, arguments any) string {
	b.t.Helper()
	m := map[string]any{"execute": command}
	if arguments != nil {
		m["arguments"] = arguments
	}
	text, err := json.Marshal(m)
	if err == nil {
		_, err = b.qmp.Write(text)
	}
	if err != nil {
		b.fatal("%s: %v", command, err)
	}
	for b.events.Scan() {
		var said struct {
			Return any
			Error  any
		}
		if err := json.Unmarshal(b.events.Bytes(), &said); err != nil || said.Error != nil {
			b.fatal("%s: %v %v", command, err, said.Error)
		}
		switch r := said.Return.(type) {
		case map[string]any:
			return fmt.Sprint(r["status"])
		case string:
			return r
		}
	}
	b.fatal("%s: QEMU is gone", command)
	return ""
}

// await asks until the answer is the one wanted.
func (b *box) await(command, want string) {
	b.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		status := b.ask(command, nil)
		if status == want {
			return
		}
		if status == "failed" || time.Now().After(end) {
			b.fatal("%s: %s", command, status)
		}
	}
}

// ready waits until the guest has booted.
func (b *box) ready() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*time.Minute)
	defer cancel()
	if err := b.line.Ready(ctx); err != nil {
		b.fatal("the guest does not boot: %v", err)
	}
}

// run has the guest run a command, which must succeed.
func (b *box) run(command string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*time.Minute)
	defer cancel()
	status, out, err := b.line.Run(ctx, command)
	if err != nil || status != 0 {
		b.fatal("%s: %d, %v\n%s", command, status, err, out)
	}
}

// kill ends what still runs.
func (b *box) kill() {
	if b.qemu != nil && b.qemu.Process != nil {
		_ = b.qemu.Process.Kill()
		<-b.exited
	}
	if b.tpm != nil {
		b.tpm.kill()
	}
}

// gone waits until QEMU and the TPM have ended.
func (b *box) gone() {
	b.t.Helper()
	select {
	case <-b.exited:
	case <-time.After(time.Minute):
		b.fatal("QEMU does not end")
	}
	tpm := b.tpm
	b.tpm = nil
	if err := tpm.wait(); err != nil {
		b.t.Fatal(err)
	}
}

// off shuts the guest down.
func (b *box) off() {
	b.t.Helper()
	if _, err := b.line.conn.Write([]byte("off\n")); err != nil {
		b.fatal("%v", err)
	}
	b.gone()
}

// clients has all clients in the guest make their keys, or use them.
func (b *box) clients(verb, when string) {
	b.t.Helper()
	start := time.Now()
	b.run("sh /run/all.sh " + verb)
	b.t.Logf("%s: every client could %s its keys, in %v", when, verb, time.Since(start).Round(100*time.Millisecond))
}

// allClients runs all of them at once, and says of each that fails what it said.
const allClients = `cd /run/keys || exit
for c in clevis systemd pkcs11 openssl; do
	sh /client.sh $c $1 > /run/$c.log 2>&1 || echo $c > /run/$c.failed &
done
wait
for c in clevis systemd pkcs11 openssl; do
	[ ! -e /run/$c.failed ] || { echo "$c: failed"; cat /run/$c.log; failed=1; }
done
[ -z "$failed" ]
`

// TestClientKeysInGuest makes keys of clevis, systemd-cryptenroll, tpm2-pkcs11 and
// tpm2-openssl inside a Debian guest on Debian's swtpm, and uses them there again: when
// the TPM was taken over as it ran and at rest, after a live migration, a save and a
// restore, and a restart.
func TestClientKeysInGuest(t *testing.T) {
	const debian = "/usr/bin/swtpm"
	if testing.Short() {
		t.Skip("boots a machine, which -short leaves out")
	}
	host, missing := FindHost()
	if _, err := os.Stat(debian); err != nil {
		missing = append(missing, "swtpm")
	}
	if len(missing) > 0 {
		t.Skip("needs the Debian packages " + strings.Join(missing, ", "))
	}
	cache, err := CacheDir()
	if err != nil {
		t.Skip(err)
	}
	kernel, err := FetchKernel(t.Context(), cache)
	if err != nil {
		t.Skip("needs a Debian kernel: ", err)
	}
	dir := t.TempDir()
	ours := filepath.Join(dir, "swtpm")
	build := exec.Command("go", "build", "-o", ours, "github.com/ashlar-cloud/ashlar/cmd/swtpm")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	initrd := filepath.Join(dir, "initrd")
	clientRoot(t, host, initrd)
	first, second, third := filepath.Join(dir, "first"), filepath.Join(dir, "second"), filepath.Join(dir, "third")

	start := time.Now()
	// boot starts the guest anew, with what it has kept.
	boot := func(program, state string) *box {
		t.Helper()
		b := startBox(t, host, kernel.Image, initrd, program, state)
		b.ready()
		t.Logf("booted, at %v", time.Since(start).Round(100*time.Millisecond))
		if err := b.line.Put(t.Context(), "/run/all.sh", []byte(allClients)); err != nil {
			b.fatal("%v", err)
		}
		b.run("ln -s /proc/self/fd /dev/fd; mkdir /run/keys; [ ! -e /kept ] || tar xzf /kept -C /run; tpm2_pcrextend 16:sha256=" + strings.Repeat("01", 32))
		return b
	}
	b := boot(debian, first)
	b.clients("make", "on Debian's swtpm")
	b.run("tar czf /run/kept -C /run keys")
	kept, err := b.line.Get(t.Context(), "/run/kept")
	if err != nil {
		b.fatal("%v", err)
	}
	t.Logf("the guest keeps %d KB, at %v", len(kept)>>10, time.Since(start).Round(100*time.Millisecond))
	appendRoot(t, initrd, "kept", kept)
	// migrate moves a guest, as it runs, to our TPM on another directory.
	migrate := func(from *box, state string) *box {
		t.Helper()
		socket := filepath.Join(from.dir, "migration")
		to := startBox(t, host, kernel.Image, initrd, ours, state, "-incoming", "unix:"+socket)
		from.ask("migrate", map[string]string{"uri": "unix:" + socket})
		from.await("query-migrate", "completed")
		to.await("query-status", "running")
		from.ask("quit", nil)
		from.gone()
		return to
	}
	to := migrate(b, filepath.Join(dir, "moved"))
	to.clients("use", "after a live migration from Debian's swtpm")
	to.off()

	b = boot(ours, first)
	b.clients("use", "after the take-over in its place")
	to = migrate(b, second)
	to.clients("use", "after a live migration")

	saved := filepath.Join(dir, "saved")
	to.ask("migrate", map[string]string{"uri": "exec:cat > " + saved})
	to.await("query-migrate", "completed")
	to.ask("quit", nil)
	to.gone()
	b = startBox(t, host, kernel.Image, initrd, ours, third, "-incoming", "exec:cat "+saved)
	b.await("query-status", "running")
	b.clients("use", "after save and restore")
	b.off()

	b = boot(ours, third)
	b.clients("use", "after a restart")
	b.off()
	t.Logf("ended at %v", time.Since(start).Round(100*time.Millisecond))
}
