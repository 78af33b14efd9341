package main

import (
	"fmt"
	"os/user"
	"strconv"

	"github.com/ashlar-cloud/ashlar/internal/confine"
)

// runAs gives up the rights of the present user for those of another, who is given
// by name or by number. As for swtpm_setup, a number is the group's too.
func runAs(name string) error {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return confine.Account{UID: int(n), GID: int(n), Groups: []int{int(n)}}.Become(name)
	}
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("--runas: there is no user '%s'", name)
	}
	a, err := confine.AccountOf(u)
	if err != nil {
		return err
	}
	return a.Become(name)
}
