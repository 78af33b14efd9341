package main

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestParseOptions(t *testing.T) {
	o, err := parseOptions("socket", []string{"--ctrl=type=tcp,port=1", "--server", "type=tcp,port=2",
		"-td", "-p3", "-r", "nobody", "--tpm2", "--print-s", "--tpms", "dir=x"})
	if err != nil {
		t.Fatal(err)
	}
	if o.ctrl != "type=tcp,port=1" || o.server != "type=tcp,port=2" || !o.terminate || !o.daemon ||
		o.port != "3" || o.runas != "nobody" || !o.tpm2 || !o.printStates || o.tpmstate != "dir=x" {
		t.Errorf("%+v", o)
	}
}

// TestRefused wants one line that names the thing for whatever cannot be.
func TestRefused(t *testing.T) {
	dir := shortDir(t)
	for _, c := range []struct{ args, name string }{
		{"", "socket"},
		{"chardev --tpm2 --tpmstate dir=DIR", "--vtpm-proxy"},
		{"chardev --tpm2 --tpmstate dir=DIR --vtpm-proxy --fd 7", "exclude"},
		{"chardev --tpm2 --tpmstate dir=DIR --chardev DIR/absent", "DIR/absent"},
		{"chardev --tpm2 --tpmstate dir=DIR -c DIR", "DIR"},
		{"chardev --tpm2 --tpmstate dir=DIR --fd 77", "77"},
		{"chardev --tpm2 --tpmstate dir=DIR --fd 2", "fd=2"},
		{"chardev --tpm2 --server type=tcp,port=1", "--server"},
		{"chardev --tpm2 -t", "swtpm chardev --help"},
		{"socket --tpm2 --vtpm-proxy", "--vtpm-proxy"},
		{"cuse", "cuse"},
		{"nonsense", "nonsense"},
		{"socket --nonsense", "--nonsense"},
		{"socket -x", "-x"},
		{"socket stray", "stray"},
		{"socket --tpm2=1", "--tpm2"},
		{"socket --ctrl", "--ctrl"},
		{"socket --p 1", "--p"}, // pid, port, print-…
		{"socket --tpmstate dir=DIR --ctrl type=tcp,port=1", "--tpm2"},
		{"socket --tpm2 --tpmstate dir=DIR", "--ctrl"},
		{"socket --tpm2 --ctrl type=unixio,path=DIR/c", "--tpmstate"},
		{"socket --tpm2 --tpmstate dir=DIR/absent --ctrl type=unixio,path=DIR/c", "DIR/absent"},
		{"socket --tpm2 --tpmstate dir=DIR,colour=red --ctrl type=unixio,path=DIR/c", "colour"},
		{"socket --tpm2 --tpmstate dir=DIR,mode=999 --ctrl type=unixio,path=DIR/c", "999"},
		{"socket --tpm2 --tpmstate backend-uri=ftp://DIR/f --ctrl type=unixio,path=DIR/c", "file://"},
		{"socket --tpm2 --tpmstate backend-uri=file:// --ctrl type=unixio,path=DIR/c", "file://"},
		{"socket --tpm2 --tpmstate backend-uri=file://DIR --ctrl type=unixio,path=DIR/c", "neither a file"},
		{"socket --tpm2 --tpmstate backend-uri=file://DIR/f,backup --ctrl type=unixio,path=DIR/c", "backup"},
		{"socket --tpm2 --tpmstate backend-uri=dir://DIR,dir=DIR --ctrl type=unixio,path=DIR/c", "needs dir="},
		{"socket --tpm2 --tpmstate dir=DIR,mode=0600,mode=0640 --ctrl type=unixio,path=DIR/c", "'0600' and '0640'"},
		{"socket --tpm2 --tpmstate dir=DIR,lock=perhaps --ctrl type=unixio,path=DIR/c", "lock=perhaps"},
		{"socket --tpm2 --tpmstate dir= --ctrl type=unixio,path=DIR/c", "dir="},
		{"socket --tpm2 --tpmstate dir=DIR --migration incoming=maybe --ctrl type=unixio,path=DIR/c", "incoming=maybe"},
		{"socket --tpm2 --tpmstate dir=DIR --migration outgoing --ctrl type=unixio,path=DIR/c", "outgoing"},
		{"socket --tpm2 --tpmstate dir=DIR --locality reject-locality-3 --ctrl type=unixio,path=DIR/c", "reject-locality-3"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --pid pidfile=DIR/p", "pidfile"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --pid file=DIR/p,fd=7", "not both"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --log file=DIR/l,fd=7", "not both"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --log fd=77", "fd=77"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=tcp,clientfd=7", "clientfd"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=tcp,port=0,bindaddr=localhost", "bindaddr=localhost"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=tcp,port=0,bindaddr=fe80::1", "ifname"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=tcp,port=0,bindaddr=fe80::1,ifname=none0", "ifname=none0"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio", "path"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=pigeon", "type"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=tcp", "port"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=tcp,port=70000", "70000"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,fd=7,clientfd=8", "clientfd"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,clientfd=1", "clientfd=1"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/absent/c", "DIR/absent/c"},
		{"socket --tpm2 --tpmstate dir=DIR --server type=pigeon", "pigeon"},
		{"socket --tpm2 --tpmstate dir=DIR -p 1 --flags startup-deactivated", "1.2"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --flags startup-clear,startup-state", "one kind"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --key file=k", "--key"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --migration-key file=k", "--migration-key"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --seccomp action=maim", "maim"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --runas no-such-user", "no-such-user"},
		{"socket --tpm2 --print-info x", "x"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --profile name=best", "best"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --profile name=null,file=DIR/f", "one of name=, profile="},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --profile remove-disabled=check", "one of name=, profile="},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --profile name=custom,remove-disabled=all", "remove-disabled=all"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --profile file=DIR/absent", "DIR/absent"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --profile fd=1", "fd=1"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --profile name=null,profile", "profile"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --profile profile={\"Name\":\"null\",\"Commands\":\"1,2\"},name", "one of"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --profile profile={\"Name\":\"null\",\"Commands\":\"1,2\"}", "cannot be changed"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --pcap truncate", "--pcap needs"},
		{"socket --tpm2 --tpmstate dir=DIR --ctrl type=unixio,path=DIR/c --pcap file=DIR/absent/p", "DIR/absent/p"},
		{"socket --tpm2 --print-states", "--tpmstate"},
	} {
		args := strings.Fields(strings.ReplaceAll(c.args, "DIR", dir))
		out, errs, code := output(t, args...)
		name := strings.ReplaceAll(c.name, "DIR", dir)
		if code != 1 || out != "" || strings.Count(errs, "\n") != 1 ||
			!strings.HasPrefix(errs, "swtpm: ") || !strings.Contains(errs, name) {
			t.Errorf("%s: exit code %d, %q, %q; want one line with %q", c.args, code, out, errs, name)
		}
		if list, _ := os.ReadDir(dir); len(list) != 0 {
			t.Errorf("%s: it left %s", c.args, list[0].Name())
			os.Remove(join(dir, list[0].Name()))
		}
	}
}

// TestBadStateLeavesNoFiles: a state that no TPM can be made of ends the process, with
// its sockets and its pid file.
func TestBadStateLeavesNoFiles(t *testing.T) {
	dir := shortDir(t)
	if err := os.WriteFile(join(dir, "tpm2-00.permall"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs, code := output(t, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--flags", "startup-clear", "--pid", "file="+join(dir, "pid"),
		"--ctrl", "type=unixio,path="+join(dir, "c"), "--server", "type=unixio,path="+join(dir, "d"))
	if code != 1 || !strings.Contains(errs, "tpm2-00.permall") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	for _, name := range []string{"c", "d", "pid"} {
		if _, err := os.Lstat(join(dir, name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
}

func TestPrinted(t *testing.T) {
	dir := shortDir(t)
	asJSON := func(v any, args ...string) {
		t.Helper()
		out, errs, code := output(t, args...)
		if code != 0 || errs != "" {
			t.Fatalf("%v: exit code %d, %s", args, code, errs)
		}
		if err := json.Unmarshal([]byte(out), v); err != nil {
			t.Fatalf("%v: %s: %v", args, out, err)
		}
	}
	var caps struct {
		Type, Version string
		Features      []string
	}
	var profiles struct{ AvailableProfiles []struct{ Name string } }
	asJSON(&profiles, "socket", "--tpm2", "--print-profiles")
	if len(profiles.AvailableProfiles) != 5 || profiles.AvailableProfiles[0].Name != "ashlar-v1" {
		t.Errorf("%+v", profiles)
	}
	asJSON(&caps, "socket", "--print-capabilities")
	if caps.Type != "swtpm" || caps.Version == "" {
		t.Errorf("%+v", caps)
	}
	for _, feature := range []string{"tpm-2.0", "cmdarg-migration", "ctrl-opt-terminate", "tpmstate-dir-backend-opt-fsync"} {
		if !slices.Contains(caps.Features, feature) {
			t.Errorf("%s is not in %v", feature, caps.Features)
		}
	}
	var states struct {
		Type   string
		States []struct {
			Name string
			Size int
		}
	}
	asJSON(&states, "socket", "--tpm2", "--print-states", "--tpmstate", "backend-uri=dir://"+dir)
	if states.Type != "swtpm" || len(states.States) != 0 {
		t.Errorf("%+v", states)
	}
	p := startProcess(t, swtpmCommand(t, "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--flags", "startup-clear", "--server", "type=unixio,path="+join(dir, "d")))
	p.dial("unix", join(dir, "d")).Close()
	if code := p.stop(); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.errs)
	}
	asJSON(&states, "socket", "--tpm2", "--print-states", "--tpmstate", "dir="+dir)
	if len(states.States) != 1 || states.States[0].Name != "permall" || states.States[0].Size == 0 {
		t.Errorf("%+v", states)
	}
	var info map[string]any
	asJSON(&info, "socket", "--tpm2", "--print-info", "0x3")
	if info["TPMSpecification"] == nil || info["TPMAttributes"] == nil || info["TPMFeatures"] != nil {
		t.Errorf("%v", info)
	}
	for _, args := range [][]string{{"--help"}, {"socket", "-h"}, {"--version"}, {"socket", "--version"}} {
		if out, _, code := output(t, args...); code != 0 || !strings.Contains(out, "TPM") {
			t.Errorf("%v: %d %s", args, code, out)
		}
	}
}

// profileInfo asks for what --print-info says of algorithms, attributes and the
// profile in force.
func profileInfo(t *testing.T, args ...string) (i struct {
	RuntimeAlgorithms, RuntimeCommands, RuntimeAttributes struct{ Implemented, CanBeDisabled, Enabled, Disabled string }
	ActiveProfile                                         struct{ Name, Algorithms, Commands, Attributes string }
	AvailableProfiles                                     []struct{ Name string }
}) {
	t.Helper()
	out, errs, code := output(t, append([]string{"socket", "--tpm2", "--print-info", "0xff"}, args...)...)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	if err := json.Unmarshal([]byte(out), &i); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return i
}

// TestProfiles gives a new TPM a profile in every way, and finds it in force.
func TestProfiles(t *testing.T) {
	dir := shortDir(t)
	if err := os.WriteFile(join(dir, "f"), []byte(` {"Name":"default-v1"} `), 0o600); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"name=default-v2":    "default-v2",
		"file=" + dir + "/f": "default-v1",
		"name=custom:it":     "custom:it",
		`profile={"Name":"custom","Attributes":"pct,no-sha1-hmac"},remove-disabled=check`:    "custom",
		`profile={"Name":"custom:}","Description":"braces {, and }}"},remove-disabled=check`: "custom:}",
	} {
		if i := profileInfo(t, "--profile", value); i.ActiveProfile.Name != want {
			t.Errorf("%s gives %s", value, i.ActiveProfile.Name)
		}
	}
	i := profileInfo(t)
	if len(i.AvailableProfiles) != 5 || i.ActiveProfile.Name != "null" ||
		!strings.Contains(i.RuntimeAlgorithms.Enabled, "ecc,ecc-min-size=192,ecc-nist,ecc-bn,ecc-nist-p192,") ||
		!strings.Contains(i.RuntimeCommands.CanBeDisabled, "0x121-0x122") || i.RuntimeAttributes.Enabled != "" {
		t.Errorf("%+v", i)
	}

	args := []string{"socket", "--tpm2", "--tpmstate", "dir=" + dir, "--flags", "startup-clear",
		"--server", "type=unixio,path=" + join(dir, "d"), "--profile", "name=custom:fips,remove-disabled=fips-host"}
	p := startProcess(t, swtpmCommand(t, args...))
	p.dial("unix", join(dir, "d")).Close()
	if code := p.stop(); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.errs)
	}
	i = profileInfo(t, "--tpmstate", "dir="+dir)
	if i.ActiveProfile.Name != "custom:fips" || strings.Contains(i.ActiveProfile.Algorithms, "camellia") ||
		!strings.Contains(i.ActiveProfile.Algorithms, "rsa-min-size=2048") ||
		!strings.HasPrefix(i.RuntimeAlgorithms.Enabled, "rsa,rsa-min-size=2048,sha1,") ||
		!strings.Contains(i.RuntimeAlgorithms.Disabled, "camellia") ||
		i.ActiveProfile.Attributes != "no-sha1-signing,no-sha1-verification,no-unpadded-encryption" {
		t.Errorf("%+v", i)
	}
	out, errs, code := output(t, args...)
	if code != 1 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "keeps the profile") {
		t.Errorf("a profile for a TPM that is there: exit code %d, %s %s", code, out, errs)
	}
}

// TestFiles checks modes, the pid file, the log, and what is left at the end.
func TestFiles(t *testing.T) {
	dir := shortDir(t)
	p := startProcess(t, swtpmCommand(t, "socket", "--tpm2", "--tpmstate", "dir="+dir+",mode=0600",
		"--flags", "not-need-init", "--ctrl", "type=unixio,path="+join(dir, "c")+",mode=0660",
		"--pid", "file="+join(dir, "pid"), "--log", "file="+join(dir, "log")+",level=20,prefix=vm1: "))
	c := p.dial("unix", join(dir, "c"))
	awaitAnswer(t, p, c)
	mode := func(name string, want os.FileMode) {
		t.Helper()
		st, err := os.Stat(join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s: %v, want %v", name, st.Mode(), want)
		}
	}
	mode("c", 0o660)
	mode("tpm2-00.ashlar", 0o600)
	if b, _ := os.ReadFile(join(dir, "pid")); string(b) != strconv.Itoa(p.cmd.Process.Pid) {
		t.Errorf("pid file %q", b)
	}
	c.Close()
	time.Sleep(50 * time.Millisecond)
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.errs)
	}
	if b, _ := os.ReadFile(join(dir, "log")); !strings.HasPrefix(string(b), "vm1: ") {
		t.Errorf("log %q", b)
	}
	for _, name := range []string{"c", "pid"} {
		if _, err := os.Stat(join(dir, name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
}

// TestDaemon checks that the parent returns when the daemon can be reached.
func TestDaemon(t *testing.T) {
	dir := shortDir(t)
	profile, err := os.CreateTemp(dir, "profile")
	if err != nil {
		t.Fatal(err)
	}
	defer profile.Close()
	if _, err := profile.WriteAt([]byte(`{"Name":"default-v1"}`), 0); err != nil {
		t.Fatal(err)
	}
	cmd := swtpmCommand(t, "socket", "--tpm2", "--tpmstate", "dir="+dir, "-d", "--profile", "fd=3", "--flags", "not-need-init",
		"--pid", "file="+join(dir, "pid"), "--ctrl", "type=unixio,path="+join(dir, "c"))
	cmd.ExtraFiles = []*os.File{profile}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if i := profileInfo(t, "--tpmstate", "dir="+dir); i.ActiveProfile.Name != "default-v1" {
		t.Errorf("the daemon has the profile %s", i.ActiveProfile.Name)
	}
	c, err := net.Dial("unix", join(dir, "c"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := os.ReadFile(join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(b))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	if _, err := c.Write([]byte{0, 0, 0, 3}); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 4)); n != 4 {
		t.Errorf("SHUTDOWN: %v", err)
	}

	_, errs, code := output(t, "socket", "--tpm2", "--tpmstate", "dir="+dir+"/absent", "-d",
		"--ctrl", "type=unixio,path="+join(dir, "c"))
	if code != 1 || !strings.Contains(errs, "absent") {
		t.Errorf("a daemon that cannot start: exit code %d, %q", code, errs)
	}
}

// TestInherited passes connected sockets, as swtpm_setup does.
func TestInherited(t *testing.T) {
	dir := shortDir(t)
	pair := func() (ours net.Conn, theirs *os.File) {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fds[0]), "ours")
		defer f.Close()
		if ours, err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ours.Close() })
		return ours, os.NewFile(uintptr(fds[1]), "theirs")
	}
	data, dataEnd := pair()
	ctrl, ctrlEnd := pair()
	cmd := swtpmCommand(t, "socket", "--tpm2", "--tpmstate", "backend-uri=dir://"+dir,
		"--flags", "not-need-init,startup-clear",
		"--server", "type=tcp,fd=3", "--ctrl", "type=unixio,clientfd=4")
	cmd.ExtraFiles = []*os.File{dataEnd, ctrlEnd}
	p := startProcess(t, cmd)
	dataEnd.Close()
	ctrlEnd.Close()
	if rsp, err := (wire{data}).Send([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 4}); err != nil || len(rsp) != 16 {
		t.Fatalf("GetRandom: %x %v: %s", rsp, err, p.errs)
	}
	awaitAnswer(t, p, ctrl)
	data.Close()
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d when the data channel was closed: %s", code, p.errs)
	}
}

// TestRunAs gives up root.
func TestRunAs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: nobody else can become another user")
	}
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, swtpmCommand(t, "socket", "--tpm2", "--tpmstate", "dir="+dir, "-r", "nobody",
		"--flags", "not-need-init", "--ctrl", "type=unixio,path="+join(dir, "c")))
	c := p.dial("unix", join(dir, "c"))
	awaitAnswer(t, p, c)
	c.Close()
	st, err := os.Stat(join(dir, "tpm2-00.ashlar"))
	if err != nil {
		t.Fatal(err)
	}
	if uid := st.Sys().(*syscall.Stat_t).Uid; uid == 0 {
		t.Error("the state is root's")
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d: %s", code, p.errs)
	}
}

// awaitAnswer asks on a control channel for the capabilities: what comes after
// the sockets at the start is done then.
func awaitAnswer(t *testing.T, p *process, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte{0, 0, 0, 1}); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 8)); n != 8 {
		t.Fatalf("GET_CAPABILITY: %v: %s", err, p.errs)
	}
}

// TestSetupOfDebian runs Debian's swtpm_setup with this swtpm.
func TestSetupOfDebian(t *testing.T) {
	needTools(t, "swtpm_setup")
	dir := shortDir(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("swtpm_setup", "--tpm2", "--tpmstate", dir, "--tpm", self+" socket",
		"--createek", "--pcr-banks", "sha256", "--display")
	cmd.Env = append(os.Environ(), runVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(join(dir, "tpm2-00.ashlar")); err != nil {
		t.Error(err)
	}
}
