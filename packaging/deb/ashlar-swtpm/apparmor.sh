ours=/etc/apparmor.d/ashlar-swtpm theirs=/etc/apparmor.d/usr.bin.swtpm
disabled=/etc/apparmor.d/disable

# aa runs apparmor_parser where AppArmor is on. A chroot must not change its host's
# profiles. That a profile does not load is no reason not to install: swtpm confines itself.
aa() {
	if ! ischroot && command -v aa-enabled >/dev/null && aa-enabled --quiet; then
		apparmor_parser "$@" || echo "ashlar-swtpm: apparmor_parser $* failed" >&2
	fi
}

# disable keeps a profile from being loaded, now and at boot; enable undoes that, unless it
# was somebody else's doing. The link says whose it is by where it leads.
disable() {
	[ -L "$disabled/${1##*/}" ] || ln -s ../ashlar-swtpm "$disabled/${1##*/}"
}
enable() {
	[ "$(readlink "$disabled/${1##*/}")" != ../ashlar-swtpm ] || rm "$disabled/${1##*/}"
}
