package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ashlar-cloud/ashlar/swtpm"
)

// keyClients are the programs whose keys a TPM holds, by their names in
// testdata/keys/client.sh.
var keyClients = []string{"clevis", "systemd", "pkcs11", "openssl"}

// keptTPM is a TPM that outlives its processes, and the clients that have keys in it.
type keptTPM struct {
	t       *testing.T
	ashlar  string // the program that moves it
	work    string // where the clients keep what is theirs
	debian  bool   // whose it is now
	dir     string
	key     string   // of its state, as an option; empty for none
	options []string // more of swtpm's
	pw      string   // the file of a passphrase

	p    *process
	port int
}

// start runs the TPM, from the states of another process where there are any, which go
// on, else with a TPM2_Startup(CLEAR).
func (k *keptTPM) start(blobs map[swtpm.BlobType][]byte) {
	k.t.Helper()
	k.port = freePortPair(k.t)
	args := []string{"socket", "--tpm2", "--tpmstate", "dir=" + k.dir, "--server", fmt.Sprintf("type=tcp,port=%d", k.port),
		"--ctrl", fmt.Sprintf("type=tcp,port=%d", k.port+1)}
	if k.key != "" {
		args = append(args, "--key", k.key)
	}
	if blobs == nil {
		args = append(args, "--flags", "not-need-init,startup-clear")
	}
	args = append(args, k.options...)
	cmd := swtpmCommand(k.t, args...)
	if k.debian {
		cmd = exec.Command(debianSwtpm, args...)
	}
	k.p = startProcess(k.t, cmd)
	k.control(func(c *swtpm.Client) error {
		if blobs == nil {
			return nil
		}
		if err := c.Stop(); err != nil {
			return err
		}
		for _, b := range blobKinds {
			if err := c.SetStateBlob(b, blobs[b]); err != nil {
				return err
			}
		}
		return c.Init(true)
	})
}

var blobKinds = []swtpm.BlobType{swtpm.BlobPermanent, swtpm.BlobVolatile}

// control runs f on a control channel of its own: Debian's swtpm serves one at a time.
func (k *keptTPM) control(f func(*swtpm.Client) error) {
	k.t.Helper()
	conn := k.p.dial("tcp", fmt.Sprintf("127.0.0.1:%d", k.port+1))
	defer conn.Close()
	if err := f(swtpm.NewClient(conn)); err != nil {
		k.t.Fatalf("%v: %s", err, k.p.errs)
	}
}

// end ends the TPM as its machine does that is shut down.
func (k *keptTPM) end() {
	k.t.Helper()
	tools{t: k.t, tcti: k.tcti(), dir: k.work}.run("tpm2_shutdown -c")
	k.stop()
}

func (k *keptTPM) stop() {
	k.t.Helper()
	k.control((*swtpm.Client).Shutdown)
	k.p.wait()
}

// leave ends the process and gives its running state, as a migration's source does.
func (k *keptTPM) leave() map[swtpm.BlobType][]byte {
	k.t.Helper()
	blobs := make(map[swtpm.BlobType][]byte)
	k.control(func(c *swtpm.Client) (err error) {
		for _, b := range blobKinds {
			if blobs[b], err = c.StateBlob(b); err == nil && len(blobs[b]) == 0 {
				err = fmt.Errorf("there is no state %d", b)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	k.stop()
	return blobs
}

// move runs the program that moves TPMs.
func (k *keptTPM) move(args ...string) {
	k.t.Helper()
	if out, err := exec.Command(k.ashlar, append([]string{"tpm"}, args...)...).CombinedOutput(); err != nil {
		k.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// keys are the options by which one program reads the state of another.
func (k *keptTPM) keys() []string {
	if k.key == "" {
		return nil
	}
	return []string{"--key", k.key}
}

// transition is one way in which a TPM comes to another process.
type transition struct {
	name   string
	runs   bool // the TPM runs on: what its PCRs had, they have
	change func(k *keptTPM)
}

var (
	restart    = transition{"restart", false, func(k *keptTPM) { k.end(); k.start(nil) }}
	restore    = transition{"save and restore", true, func(k *keptTPM) { k.start(k.leave()) }}
	migrate    = transition{"migration", true, func(k *keptTPM) { k.migrateTo(false, "") }}
	migrateKey = transition{"migration, encrypted", true, func(k *keptTPM) {
		k.migrateTo(false, "pwdfile="+k.pw+",mode=aes-256-cbc")
	}}
	takeOverInPlace = transition{"take-over in its place", false, func(k *keptTPM) { k.end(); k.debian = false; k.start(nil) }}
	takeOverRunning = transition{"take-over while it runs", true, func(k *keptTPM) { k.migrateTo(false, k.key) }}
	importTPM       = transition{"ashlar tpm import", false, func(k *keptTPM) {
		k.end()
		to := shortDir(k.t)
		k.move(append([]string{"import", k.dir, to}, k.keys()...)...)
		k.dir, k.debian = to, false
		k.start(nil)
	}}
	takeOverHost = transition{"ashlar tpm takeover", false, func(k *keptTPM) {
		k.end()
		k.move(append([]string{"takeover", k.dir}, k.keys()...)...)
		k.debian = false
		k.start(nil)
	}}
	exportTPM = transition{"ashlar tpm export", false, func(k *keptTPM) {
		k.end()
		to := shortDir(k.t)
		k.move(append([]string{"export", k.dir, join(to, "tpm2-00.permall")}, k.keys()...)...)
		k.dir, k.debian = to, true
		k.start(nil)
	}}
	giveBackHost = transition{"ashlar tpm takeover --back", false, func(k *keptTPM) {
		k.end()
		k.move(append([]string{"takeover", "--back", k.dir}, k.keys()...)...)
		k.debian = true
		k.start(nil)
	}}
)

// migrateTo moves the running TPM to a directory of its own, where its state has a key.
func (k *keptTPM) migrateTo(debian bool, key string) {
	k.t.Helper()
	blobs := k.leave()
	k.dir, k.debian, k.key = shortDir(k.t), debian, key
	k.start(blobs)
}

const debianSwtpm = "/usr/bin/swtpm"

// TestClientKeys makes keys of clevis, systemd-cryptenroll, tpm2-pkcs11 and tpm2-openssl
// on Debian's swtpm and on ours, and uses them again after each way in which the TPM can
// come to another process.
func TestClientKeys(t *testing.T) {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin") // for good: t.Setenv forbids what runs at once
	needTools(t, debianSwtpm, "dbus-daemon", "tpm2-abrmd", "clevis-encrypt-tpm2", "systemd-cryptenroll", "cryptsetup",
		"pkcs11-tool", "openssl", "xxd")
	ashlar := join(t.TempDir(), "ashlar")
	build := exec.Command("go", "build", "-o", ashlar, "../ashlar")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	pw := join(t.TempDir(), "pw")
	if err := os.WriteFile(pw, []byte("a passphrase"), 0o600); err != nil {
		t.Fatal(err)
	}
	way := []string{"--migration-key", "pwdfile=" + pw + ",mode=aes-256-cbc"}
	for _, c := range []struct {
		origin string
		sealed bool // its state is encrypted, and on its way
		way    []transition
	}{
		{"Debian", false, []transition{takeOverInPlace, restart, restore, migrate, giveBackHost, takeOverRunning, exportTPM, importTPM, giveBackHost, takeOverHost}},
		{"Debian, encrypted", true, []transition{takeOverInPlace, restart, restore, giveBackHost, takeOverRunning}},
		{"ours", false, []transition{restart, restore, migrateKey, restart, restore, exportTPM, takeOverHost, migrateKey}},
	} {
		t.Run("made on "+c.origin, func(t *testing.T) {
			t.Parallel()
			k := &keptTPM{t: t, ashlar: ashlar, work: t.TempDir(), debian: c.origin != "ours", dir: shortDir(t), pw: pw}
			if c.sealed {
				k.key = "pwdfile=" + pw + ",mode=aes-256-cbc"
			}
			if c.sealed || !k.debian {
				k.options = way
			}
			k.start(nil)
			k.extend()
			k.clients("make", "made")
			k.clients("use", "at once")
			for _, step := range c.way {
				step.change(k)
				if !step.runs {
					k.extend()
				}
				k.clients("use", "after "+step.name)
				if t.Failed() {
					return
				}
			}
			k.end()
		})
	}
}

// extend brings PCR 16 to where the keys are sealed to.
func (k *keptTPM) extend() {
	k.t.Helper()
	tools{t: k.t, tcti: k.tcti(), dir: k.work}.run("tpm2_pcrextend 16:sha256=" + strings.Repeat("01", 32))
}

func (k *keptTPM) tcti() string { return fmt.Sprintf("swtpm:host=127.0.0.1,port=%d", k.port) }

// clients has each client make its keys, or use them, all at once, behind a resource
// manager of this run.
func (k *keptTPM) clients(verb, when string) {
	k.t.Helper()
	bus, end := k.manager()
	defer end()
	script, err := filepath.Abs("testdata/keys/client.sh")
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Run(when, func(t *testing.T) {
		for _, client := range keyClients {
			t.Run(client, func(t *testing.T) {
				t.Parallel()
				cmd := exec.Command("sh", script, client, verb)
				cmd.Dir = k.work
				cmd.Env = append(os.Environ(), bus, "TCTI=tabrmd:bus_type=session", "TSS2_LOG=all+ERROR")
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	})
}

// manager puts tpm2-abrmd before the TPM, on a bus that it gives as a variable.
func (k *keptTPM) manager() (variable string, end func()) {
	k.t.Helper()
	daemon := exec.Command("dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address=1")
	out, err := daemon.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	daemon.WaitDelay = time.Second // what it starts may outlive it
	bus := startProcess(k.t, daemon)
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		k.t.Fatal(err)
	}
	variable = "DBUS_SESSION_BUS_ADDRESS=" + strings.TrimSpace(address)
	abrmd := exec.Command("tpm2-abrmd", "--session", "--allow-root", "--tcti="+k.tcti())
	abrmd.Env = append(os.Environ(), variable)
	manager := startProcess(k.t, abrmd)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		ask := exec.Command("dbus-send", "--session", "--print-reply=literal", "--dest=org.freedesktop.DBus", "/",
			"org.freedesktop.DBus.NameHasOwner", "string:com.intel.tss2.Tabrmd")
		ask.Env = abrmd.Env
		if said, err := ask.Output(); err == nil && strings.Contains(string(said), "true") {
			break
		}
		if time.Now().After(end) {
			k.t.Fatalf("tpm2-abrmd does not take its name on the bus: %s", manager.errs)
		}
	}
	return variable, func() {
		manager.stop()
		bus.stop()
	}
}
