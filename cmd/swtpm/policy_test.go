package main

import (
	"os/exec"
	"testing"
)

// TestPoliciesParse has the tools of AppArmor and SELinux read what is packaged for
// them.
func TestPoliciesParse(t *testing.T) {
	for _, c := range []struct {
		tool, from string
		args       []string
	}{
		{"/sbin/apparmor_parser", "apparmor", []string{"--skip-kernel-load", "--skip-cache", "../../packaging/apparmor/usr.bin.swtpm"}},
		{"/usr/bin/checkmodule", "checkpolicy", []string{"-M", "-m", "-o", join(t.TempDir(), "ashlar_swtpm.mod"), "../../packaging/selinux/ashlar_swtpm.te"}},
		{"/usr/bin/checkmodule", "checkpolicy", []string{"-M", "-m", "-o", join(t.TempDir(), "ashlar_svirt.mod"), "../../packaging/selinux/ashlar_svirt.te"}},
	} {
		t.Run(c.from, func(t *testing.T) {
			if _, err := exec.LookPath(c.tool); err != nil {
				t.Skipf("%s is missing: install %s", c.tool, c.from)
			}
			if out, err := exec.Command(c.tool, c.args...).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
