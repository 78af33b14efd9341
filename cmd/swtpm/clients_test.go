package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestClients runs what uses a TPM on a Debian machine against our swtpm, and
// against Debian's: each script says what it needs, and what it got is checked
// by openssl, by cryptsetup or by opening what was sealed.
func TestClients(t *testing.T) {
	for _, tool := range []string{"tpm2_createek", "openssl", "xxd"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: install tpm2-tools, openssl and xxd", tool)
		}
	}
	// Where Debian has daemons, and who is not root does not look.
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	onBoth(t, "testdata/clients")
}

// simulator goes over to the simulator's protocol, where the swtpm has it, and
// tells IBM's TSS where that is. Without it, the TSS takes the data channel.
func simulator(ts *testscript.TestScript, _ bool, _ []string) {
	s := servedOf(ts)
	ts.Setenv("TPM_COMMAND_PORT", fmt.Sprint(s.port))
	ts.Setenv("TPM_PLATFORM_PORT", fmt.Sprint(s.port+1))
	ts.Setenv("TPM_SERVER_TYPE", "raw")
	if s.ours {
		ts.Setenv("TPM_SERVER_TYPE", "mssim")
		s.stop()
		ts.Check(s.start("mssim"))
	}
}

// abrmd puts tpm2-abrmd, on a bus of its own, between the TPM and the script's
// clients: many of them expect a resource manager, as the kernel has one.
func abrmd(ts *testscript.TestScript, _ bool, _ []string) {
	s := servedOf(ts)
	bus := exec.Command("dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address=1")
	out, err := bus.StdoutPipe()
	ts.Check(err)
	ts.Check(bus.Start())
	s.others = append(s.others, bus)
	address, err := bufio.NewReader(out).ReadString('\n')
	ts.Check(err)
	ts.Setenv("DBUS_SESSION_BUS_ADDRESS", strings.TrimSpace(address))

	manager := exec.Command("tpm2-abrmd", "--session", "--allow-root", "--tcti="+ts.Getenv("TPM2TOOLS_TCTI"))
	manager.Env = append(os.Environ(), "DBUS_SESSION_BUS_ADDRESS="+ts.Getenv("DBUS_SESSION_BUS_ADDRESS"))
	ts.Check(manager.Start())
	s.others = append(s.others, manager)
	ts.Setenv("TPM2TOOLS_TCTI", "tabrmd:bus_type=session")

	ask := []string{"--session", "--print-reply=literal", "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.NameHasOwner", "string:com.intel.tss2.Tabrmd"}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		cmd := exec.Command("dbus-send", ask...)
		cmd.Env = manager.Env
		if out, err := cmd.Output(); err == nil && strings.Contains(string(out), "true") {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("tpm2-abrmd does not take its name on the bus")
		}
	}
}
