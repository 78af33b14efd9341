#!/bin/sh
# The guest's first program. The shell is busybox, which finds its own tools by
# /proc/self/exe once /proc is there.
/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t securityfs securityfs /sys/kernel/security

# From here on every program that runs is measured into PCR 10. The policy itself
# lies in this initramfs, which was measured into PCR 9.
cat /etc/ima-policy > /sys/kernel/security/ima/policy || echo "ashlar: the kernel refused the IMA policy"

# The second serial port is the line to the host: requests "put PATH", "run COMMAND",
# "get PATH" and "off"; contents travel as base64, each answer ends with ". STATUS".
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo "ready" >&3
while read -r verb rest <&3; do
	case $verb in
	put)
		while read -r line <&3 && [ "$line" != . ]; do echo "$line"; done | base64 -d > "$rest"
		status=$?
		;;
	run)
		echo "ashlar: run $rest"
		sh -c "$rest" > /run/output 2>&1 3<&-
		status=$?
		cat /run/output
		base64 /run/output >&3
		;;
	get)
		base64 "$rest" >&3
		status=$?
		;;
	off)
		poweroff -f
		;;
	*)
		status=127
		;;
	esac
	echo ". $status" >&3
done
poweroff -f
