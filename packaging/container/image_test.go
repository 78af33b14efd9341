// Package container has the test of the image.
package container

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestImage builds the image of the recipe without a registry and runs its programs in
// it as its user, with nothing else there: no /proc, and of /dev something like null.
func TestImage(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: nothing can be run in the image")
	}
	if _, err := exec.LookPath("buildah"); err != nil {
		t.Skip("there is no buildah to build the image with: install it")
	}
	if out, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("nothing can be mounted here: %v: %s", err, out)
	}
	dir, project := t.TempDir(), t.TempDir()
	run(t, "./root", filepath.Join(project, "bin/image"))
	layout := filepath.Join(dir, "oci")
	// In a mount namespace, for what buildah mounts must be gone before the directory is.
	buildah := []string{"unshare", "--mount", "buildah", "--root", filepath.Join(dir, "r"), "--runroot", filepath.Join(dir, "rr"), "--storage-driver", "vfs"}
	run(t, append(slices.Clone(buildah), "bud", "--isolation", "chroot", "--build-arg", "FROM=here", "-t", "ashlar", "-f", "Containerfile", project)...)
	run(t, append(slices.Clone(buildah), "push", "ashlar", "oci:"+layout)...)

	root := filepath.Join(dir, "root")
	config := unpack(t, layout, root)
	uid, gid, ok := strings.Cut(config.User, ":")
	u, err1 := strconv.Atoi(uid)
	g, err2 := strconv.Atoi(gid)
	if !ok || err1 != nil || err2 != nil || u == 0 || g == 0 {
		t.Fatalf("the image's user is %q", config.User)
	}
	if want := []string{"/usr/bin/swtpm"}; !slices.Equal(config.Entrypoint, want) || config.WorkingDir != "/state" {
		t.Errorf("it starts %v in %s", config.Entrypoint, config.WorkingDir)
	}
	want := map[string]string{
		"/": "root drwxr-xr-x", "/usr": "root drwxr-xr-x", "/usr/bin": "root drwxr-xr-x", "/var": "root drwxr-xr-x", "/var/lib": "root drwxr-xr-x",
		"/tmp": "root dtrwxrwxrwx", "/state": "user drwxr-xr-x", "/var/lib/swtpm-localca": "user drwxr-xr-x",
		"/usr/bin/ashlar": "root -rwxr-xr-x", "/usr/bin/swtpm": "root -rwxr-xr-x", "/usr/bin/swtpm_setup": "root -rwxr-xr-x",
		"/usr/bin/swtpm_bios": "root Lrwxrwxrwx", "/usr/bin/swtpm_ioctl": "root Lrwxrwxrwx",
		"/usr/bin/swtpm_cert": "root Lrwxrwxrwx", "/usr/bin/swtpm_localca": "root Lrwxrwxrwx",
	}
	got := contents(t, root, u)
	for path, what := range want {
		if got[path] != what {
			t.Errorf("%s is %q, want %q", path, got[path], what)
		}
		delete(got, path)
	}
	if len(got) > 0 {
		t.Errorf("the image has more: %v", got)
	}

	if err := os.Mkdir(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "dev/null"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	run(t, "chmod", "666", filepath.Join(root, "dev/null"))
	inside := func(args ...string) *exec.Cmd {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.Env = config.WorkingDir, config.Env
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: uint32(u), Gid: uint32(g), NoSetGroups: false}}
		return cmd
	}
	for _, args := range [][]string{
		append(slices.Clone(config.Entrypoint), config.Cmd...),
		{"/usr/bin/ashlar", "version"},
		{"/usr/bin/swtpm_setup", "--tpm2", "--tpm-state", "/state", "--create-ek-cert", "--create-platform-cert", "--vmid", "vm1"},
	} {
		if out, err := inside(args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	serve(t, inside(append(slices.Clone(config.Entrypoint), "socket", "--tpm2", "--tpmstate", "dir=/state", "--server", "type=unixio,path=/state/s",
		"--flags", "not-need-init,startup-clear")...), filepath.Join(root, "state"))
}

// serve starts the TPM and sends it GetRandom.
func serve(t *testing.T, cmd *exec.Cmd, dir string) {
	t.Helper()
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = cmd.Process.Kill(), cmd.Wait() }()
	d, err := os.Open(dir) // by a descriptor: the path may be longer than a socket's address
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for range 1000 {
		conn, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/s", d.Fd()))
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		response := make([]byte, 64)
		_, err = conn.Write([]byte{0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 16})
		n := 0
		if err == nil {
			n, err = conn.Read(response)
		}
		if err != nil || n != 12+16 || !bytes.Equal(response[6:10], make([]byte, 4)) {
			t.Errorf("the TPM answers %x, %v", response[:n], err)
		}
		return
	}
	t.Errorf("swtpm does not start: %s", said.String())
}

func run(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// imageConfig is of an OCI image's configuration what is looked at.
type imageConfig struct {
	User, WorkingDir     string
	Entrypoint, Cmd, Env []string
}

// unpack puts an image's layers into a directory.
func unpack(t *testing.T, layout, root string) imageConfig {
	t.Helper()
	type blob struct{ Digest string }
	read := func(name string, into any) {
		b, err := os.ReadFile(filepath.Join(layout, name))
		if err == nil {
			err = json.Unmarshal(b, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	at := func(b blob) string { return "blobs/" + strings.Replace(b.Digest, ":", "/", 1) }
	var index struct{ Manifests []blob }
	var manifest struct {
		Config blob
		Layers []blob
	}
	var config struct{ Config imageConfig }
	read("index.json", &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("%d images", len(index.Manifests))
	}
	read(at(index.Manifests[0]), &manifest)
	read(at(manifest.Config), &config)
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, l := range manifest.Layers {
		run(t, "tar", "-C", root, "-xpf", filepath.Join(layout, at(l)))
	}
	return config.Config
}

// contents lists the files of a directory: whose they are, and their mode.
func contents(t *testing.T, root string, user int) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		owner := fmt.Sprint(info.Sys().(*syscall.Stat_t).Uid)
		owner = map[string]string{"0": "root", strconv.Itoa(user): "user"}[owner]
		list["/"+strings.TrimPrefix(strings.TrimPrefix(path, root), "/")] = owner + " " + info.Mode().String()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
