//go:build unix

package confine

import (
	"fmt"
	"os/user"
	"strconv"
	"syscall"
)

// Account is what a process becomes: a user, its group, and its other groups.
type Account struct {
	UID, GID int
	Groups   []int
}

// AccountOf gives a user's numbers. A user whose groups cannot be listed has its own
// alone. It gives an error for a user that has no numbers.
func AccountOf(u *user.User) (Account, error) {
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err1 != nil || err2 != nil {
		return Account{}, fmt.Errorf("--runas: user '%s' has no numbers", u.Username)
	}
	a := Account{uid, gid, []int{gid}}
	ids, _ := u.GroupIds() // the user's own group is enough
	for _, id := range ids {
		if n, err := strconv.Atoi(id); err == nil && n != gid {
			a.Groups = append(a.Groups, n)
		}
	}
	return a, nil
}

// Become gives up the rights of the present user for those of the account, which
// the caller was given as name. It gives an error that says which could not be taken.
func (a Account) Become(name string) error {
	if err := syscall.Setgroups(a.Groups); err != nil {
		return fmt.Errorf("--runas: the groups of '%s' cannot be taken: %w", name, err)
	}
	if err := syscall.Setgid(a.GID); err != nil {
		return fmt.Errorf("--runas: the group of '%s' cannot be taken: %w", name, err)
	}
	if err := syscall.Setuid(a.UID); err != nil {
		return fmt.Errorf("--runas: '%s' cannot be taken: %w", name, err)
	}
	return nil
}
