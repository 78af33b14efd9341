# client.sh CLIENT make|use [PCR]: makes a key of a client's in the TPM and keeps what
# belongs to it in the working directory, or uses it again: what the key seals opens,
# and what it signs verifies under the public key of when it was made. The first two
# are sealed to the PCR. TCTI names the TPM; without it, each client finds the device.
set -eu
PATH=$PATH:/usr/sbin:/sbin
pcr=${3:-16}
mkdir -p "$1"
cd "$1"
if [ -n "${TCTI:-}" ]; then
	export TPM2TOOLS_TCTI=$TCTI TPM2OPENSSL_TCTI=$TCTI TPM2_PKCS11_TCTI=$TCTI
fi
export TPM2_PKCS11_STORE=$PWD SYSTEMD_LOG_LEVEL=debug SYSTEMD_CRYPTSETUP_USE_TOKEN_MODULE=0

ossl() {
	verb=$1
	shift
	openssl "$verb" -provider tpm2 -provider default -propquery '?provider=tpm2' "$@"
}
token() {
	pkcs11-tool --module /usr/lib/*/pkcs11/libtpm2_pkcs11.so --token-label vm "$@"
}
opens() { cryptsetup open --test-passphrase "$@" disk; }

case "$1 $2" in
"clevis make")
	echo "what clevis keeps" > msg
	clevis encrypt tpm2 "{\"pcr_bank\":\"sha256\",\"pcr_ids\":\"$pcr\"}" < msg > jwe
	;;
"clevis use")
	clevis decrypt < jwe | cmp - msg
	;;
"systemd make")
	truncate -s 4M disk
	printf password > password
	cryptsetup luksFormat -q --type luks2 --key-size 256 --luks2-metadata-size 16k --luks2-keyslots-size 256k \
		--pbkdf pbkdf2 --pbkdf-force-iterations 1000 disk password
	PASSWORD=password systemd-cryptenroll --tpm2-device="${TCTI:-auto}" --tpm2-pcrs="$pcr" disk
	;;
"systemd use")
	if [ -z "${TCTI:-}" ]; then # systemd's own code gives cryptsetup the key
		opens --token-only
		exit
	fi
	# Without a device, by the steps that it takes; and it does not fail.
	cryptsetup token export --token-id 0 disk > token
	sed 's/.*"tpm2-blob":"\([^"]*\)".*/\1/' token | base64 -d > blob
	n=$((2 + 0x$(xxd -p -l 2 blob)))
	head -c $n blob > priv
	tail -c +$((n + 1)) blob > pub
	tpm2_createprimary -Q -C o -G ecc -c prim.ctx
	tpm2_load -Q -C prim.ctx -u pub -r priv -c s.ctx
	tpm2_unseal -c s.ctx -p "pcr:sha256:$pcr" | base64 -w 0 > key
	opens --key-slot 1 --key-file key
	name=ashlar-test-$$
	/lib/systemd/systemd-cryptsetup attach $name "$PWD/disk" - "headless=1,tpm2-device=$TCTI" 2> log &&
		/lib/systemd/systemd-cryptsetup detach $name
	grep -q 'Completed TPM2 key unsealing' log
	;;
"pkcs11 make")
	echo "what the token signs" > msg
	pkcs11-tool --module /usr/lib/*/pkcs11/libtpm2_pkcs11.so --init-token --label vm --so-pin so
	token --so-pin so --login --login-type so --init-pin --new-pin 1234
	token --login --pin 1234 --keypairgen --key-type EC:prime256v1 --id 32 --label ec
	token --login --pin 1234 --keypairgen --key-type RSA:2048 --id 33 --label rsa
	token --read-object --type pubkey --label ec -o ec.der
	token --read-object --type pubkey --id 33 -o rsa.der
	;;
"pkcs11 use")
	openssl dgst -sha256 -binary -out digest msg
	token --login --pin 1234 --sign --mechanism ECDSA --label ec --signature-format openssl -i digest -o ec.sig
	openssl dgst -sha256 -keyform der -verify ec.der -signature ec.sig msg
	token --login --pin 1234 --sign --mechanism SHA256-RSA-PKCS --id 33 -i msg -o rsa.sig
	openssl dgst -sha256 -keyform der -verify rsa.der -signature rsa.sig msg
	;;
"openssl make")
	echo "what OpenSSL signs" > msg
	ossl genpkey -algorithm EC -pkeyopt group:P-256 -out ec.pem
	ossl genpkey -algorithm RSA -pkeyopt bits:2048 -out rsa.pem
	ossl pkey -in ec.pem -pubout -out ec.pub
	ossl pkey -in rsa.pem -pubout -out rsa.pub
	;;
"openssl use")
	for key in ec rsa; do
		ossl dgst -sha256 -sign $key.pem -out $key.sig msg
		openssl dgst -sha256 -verify $key.pub -signature $key.sig msg
	done
	openssl pkeyutl -encrypt -pubin -inkey rsa.pub -in msg -out enc
	ossl pkeyutl -decrypt -inkey rsa.pem -in enc -out got
	cmp got msg
	;;
*)
	echo "usage: client.sh clevis|systemd|pkcs11|openssl make|use [PCR]" >&2
	exit 2
	;;
esac
