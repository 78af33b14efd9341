package guest

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Host names the files that the host must have to run a guest.
type Host struct {
	QEMU         string // qemu-system-x86_64
	Busybox      string // a static busybox
	FirmwareCode string // OVMF with TPM support, without Secure Boot
	FirmwareVars string // its empty variable store, copied for each guest
}

// requirement is one thing that the host must have and the Debian package with it.
type requirement struct {
	pkg   string
	paths []string // the first that exists is taken
	set   func(h *Host, path string)
}

func requirements() []requirement {
	return []requirement{
		{"qemu-system-x86", []string{"/usr/bin/qemu-system-x86_64"}, func(h *Host, p string) { h.QEMU = p }},
		{"ovmf", []string{"/usr/share/OVMF/OVMF_CODE_4M.fd"}, func(h *Host, p string) { h.FirmwareCode = p }},
		{"ovmf", []string{"/usr/share/OVMF/OVMF_VARS_4M.fd"}, func(h *Host, p string) { h.FirmwareVars = p }},
		{"busybox-static", []string{"/bin/busybox", "/usr/bin/busybox"}, func(h *Host, p string) { h.Busybox = p }},
	}
}

// FindHost looks for what a guest needs and also gives the Debian packages that
// are missing, in the order in which they should be named.
func FindHost() (Host, []string) {
	var host Host
	var missing []string
	for _, need := range requirements() {
		path := firstExisting(need.paths)
		if path != "" && need.pkg == "busybox-static" {
			// Debian's package busybox, linked dynamically, has the same path.
			if _, err := staticProgram(path); err != nil {
				path = ""
			}
		}
		if path != "" {
			need.set(&host, path)
		} else if len(missing) == 0 || missing[len(missing)-1] != need.pkg {
			missing = append(missing, need.pkg)
		}
	}
	return host, missing
}

func firstExisting(paths []string) string {
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// nonInteractive keeps packages from asking questions while they are installed.
const nonInteractive = "DEBIAN_FRONTEND=noninteractive"

// InstallCommands gives the commands that install Debian packages, with sudo where
// the caller is not root.
func InstallCommands(packages []string) [][]string {
	commands := [][]string{
		{"apt-get", "update", "-q"},
		append([]string{"apt-get", "install", "-q", "-y", "--no-install-recommends"}, packages...),
	}
	if os.Geteuid() != 0 {
		for i := range commands {
			// sudo drops the environment that Install sets.
			commands[i] = append([]string{"sudo", "env", nonInteractive}, commands[i]...)
		}
	}
	return commands
}

// Install runs InstallCommands with their output on out. sudo may ask for a password
// on the terminal.
func Install(ctx context.Context, packages []string, out io.Writer) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("this machine has no apt-get: install by other means what Debian packages as %s",
			strings.Join(packages, ", "))
	}
	for _, command := range InstallCommands(packages) {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Env = append(os.Environ(), nonInteractive)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, out, out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(command, " "), err)
		}
	}
	return nil
}
