# diverted calls its arguments with each file that swtpm or swtpm-tools has too, and with
# the name that theirs gets.
diverted() {
	for name in swtpm swtpm_setup swtpm_localca swtpm_cert swtpm_ioctl swtpm_bios; do
		"$@" /usr/bin/$name /usr/bin/$name.distrib
	done
	for name in swtpm swtpm_setup swtpm_localca swtpm_cert swtpm_ioctl swtpm_bios; do
		"$@" /usr/share/man/man8/$name.8.gz /usr/share/man/man8/$name.distrib.8.gz
	done
	for name in swtpm_setup.conf swtpm-localca.conf swtpm-localca.options; do
		"$@" /usr/share/man/man5/$name.5.gz /usr/share/man/man5/$name.distrib.5.gz
	done
}
