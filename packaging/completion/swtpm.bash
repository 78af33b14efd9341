# Completion of swtpm and its tools for bash: source it, or install it as
# /usr/share/bash-completion/completions/swtpm, and so under the names of the tools.
_swtpm() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=
	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		words="socket chardev --help --version"
	else
		case $prev in
		--ctrl) words="type=unixio,path= type=tcp,port=" ;;
		--server) words="type=tcp,port= type=unixio,path= type=mssim,port=" ;;
		--tpmstate) words="dir= backend-uri=dir://" ;;
		--flags) words="not-need-init startup-clear startup-state startup-none disable-auto-shutdown" ;;
		--locality) words="reject-locality-4 allow-set-locality" ;;
		--key | --migration-key) words="file= fd= pwdfile= pwdfd= format= mode= kdf= remove" ;;
		--migration) words="incoming release-lock-outgoing" ;;
		--seccomp) words="action=kill action=log action=none" ;;
		-c | --chardev) COMPREPLY=($(compgen -f -- "$cur")); return ;;
		--pid) words="file= fd=" ;;
		--log) words="file= fd=" ;;
		--pcap) words="file= fd=" ;;
		--profile) words="name=ashlar-v1 name=default-v1 name=default-v2 name=null name=custom file=" ;;
		--print-info) words="1 2 4 8 16 32 64 128 255" ;;
		-r | --runas) COMPREPLY=($(compgen -u -- "$cur")); return ;;
		-R | --chroot) COMPREPLY=($(compgen -d -- "$cur")); return ;;
		*)
			words="--tpm2 --ctrl --fd --tpmstate --flags --locality --key --migration-key
				--migration
				--daemon --chroot --runas --pid --log --pcap --seccomp --print-capabilities
				--print-states --print-info --print-profiles --profile --version --help"
			case ${COMP_WORDS[1]} in
			socket) words="$words --server --port --terminate" ;;
			chardev) words="$words --chardev --vtpm-proxy" ;;
			esac
			;;
		esac
	fi
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
	[[ ${COMPREPLY[0]-} == *= || ${COMPREPLY[0]-} == *// ]] && compopt -o nospace 2>/dev/null
}
complete -F _swtpm swtpm

_swtpm_ioctl() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} before=${COMP_WORDS[COMP_CWORD - 2]-} words=
	COMPREPLY=()
	case $prev in
	--unix) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--save | --load) words="permanent volatile savestate" ;;
	--info) words="1 2 4 8 16 32 64 128 255" ;;
	-r) words="3 4" ;;
	-l) words="0 1 2 3 4" ;;
	*)
		case $before in --save | --load) COMPREPLY=($(compgen -f -- "$cur")); return ;; esac
		words="--tcp --unix --tpm-device -c -i --stop -s -e -r -v -C -l -h --save --load -g -b --info
			--lock-storage --version --help"
		;;
	esac
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _swtpm_ioctl swtpm_ioctl

_swtpm_bios() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	case $prev in
	--unix | --tpm-device) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	esac
	COMPREPLY=($(compgen -W "--tcp --unix --tpm-device --tpm2 -c -s -d -n -o -cs -ea -u -v -h" -- "$cur"))
}
complete -F _swtpm_bios swtpm_bios

_swtpm_setup() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=
	COMPREPLY=()
	case $prev in
	--tpm-state | --write-ek-cert-files) COMPREPLY=($(compgen -d -- "$cur")); return ;;
	--config | --logfile | --pwdfile | --keyfile | --profile-file) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--runas) COMPREPLY=($(compgen -u -- "$cur")); return ;;
	--pcr-banks) words="sha1 sha256 sha384 sha512 -" ;;
	--rsa-keysize) words="2048 3072 4096 max" ;;
	--ek1keyalgo | --ek2keyalgo | --iakkeyalgo | --idevidkeyalgo)
		words="rsa2048 rsa3072 rsa4096 secp256r1 secp384r1 secp521r1"
		;;
	--cipher) words="aes-128-cbc aes-256-cbc" ;;
	--profile-name) words="null default-v1 default-v2 ashlar-v1" ;;
	--profile-remove-disabled) words="check fips-host" ;;
	--create-config-files) words="overwrite root skip-if-exist" ;;
	*)
		words="--tpm2 --tpm-state --tpmstate --overwrite --not-overwrite --pcr-banks --reconfigure
			--pwdfile --pwdfile-fd --keyfile --keyfile-fd --cipher
			--profile --profile-name --profile-file --profile-file-fd --profile-remove-disabled
			--createek --rsa-keysize --ek1keyalgo --ek2keyalgo --allow-signing --decryption
			--create-spk --ecc --iakkeyalgo --idevidkeyalgo
			--create-ek-cert --create-platform-cert --lock-nvram --write-ek-cert-files --vmid
			--config --logfile --runas --display --create-config-files
			--print-capabilities --print-profiles --version --help"
		;;
	esac
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _swtpm_setup swtpm_setup

_swtpm_localca() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=
	COMPREPLY=()
	case $prev in
	--dir) COMPREPLY=($(compgen -d -- "$cur")); return ;;
	--configfile | --optsfile | --logfile) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--type) words="ek platform iak idevid" ;;
	*)
		words="--type --ek --key --dir --vmid --tpm-spec-family --tpm-spec-level --tpm-spec-revision
			--tpm-manufacturer --tpm-model --tpm-version --tpm-serial-num --allow-signing --decryption
			--tpm2 --configfile --optsfile --logfile --print-capabilities --version --help"
		;;
	esac
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _swtpm_localca swtpm_localca

_swtpm_cert() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=
	COMPREPLY=()
	case $prev in
	--pubkey | --signkey | --issuercert | --out-cert) COMPREPLY=($(compgen -f -- "$cur")); return ;;
	--type) words="ek platform iak idevid" ;;
	--ecc-curveid) words="secp256r1 secp384r1 secp521r1" ;;
	--signkey-pwd) words="pass: file: fd: env:" ;;
	*)
		words="--pubkey --modulus --exponent --ecc-x --ecc-y --ecc-curveid --signkey --signkey-password
			--signkey-pwd --issuercert --type --subject --serial --days
			--tpm-manufacturer --tpm-model --tpm-version --tpm-spec-family --tpm-spec-level
			--tpm-spec-revision --platform-manufacturer --platform-model --platform-version
			--tpm-serial-num --allow-signing --decryption --tpm2 --out-cert --pem --add-header
			--print-capabilities --version --help"
		;;
	esac
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _swtpm_cert swtpm_cert
