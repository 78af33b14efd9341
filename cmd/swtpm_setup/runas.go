package main

import (
	"fmt"
	"os/user"
	"strconv"
	"syscall"
)

// runAs gives up the rights of the present user for those of another, who is given
// by name or by number. As for swtpm_setup, a number is the group's too.
func runAs(name string) error {
	uid, err := strconv.ParseUint(name, 10, 32)
	gid, groups := int(uid), []int{int(uid)}
	if err != nil {
		u, err := user.Lookup(name)
		if err != nil {
			return fmt.Errorf("--runas: there is no user '%s'", name)
		}
		var err1, err2 error
		uid, err1 = strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 = strconv.Atoi(u.Gid)
		if err1 != nil || err2 != nil {
			return fmt.Errorf("--runas: user '%s' has no numbers", name)
		}
		groups = []int{gid}
		ids, _ := u.GroupIds() // the user's own group is enough
		for _, id := range ids {
			if n, err := strconv.Atoi(id); err == nil && n != gid {
				groups = append(groups, n)
			}
		}
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("--runas: the groups of '%s' cannot be taken: %w", name, err)
	}
	if err := syscall.Setgid(gid); err != nil {
		return fmt.Errorf("--runas: the group of '%s' cannot be taken: %w", name, err)
	}
	if err := syscall.Setuid(int(uid)); err != nil {
		return fmt.Errorf("--runas: '%s' cannot be taken: %w", name, err)
	}
	return nil
}
