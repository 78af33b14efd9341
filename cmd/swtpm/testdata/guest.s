# A guest that works with its TPM and does nothing else: it sends Startup, and then
# extends PCR 8 for ever. For each extension that the TPM acknowledges it writes a
# point to its serial port; what is refused it tells by '!', and stops.
#
# It is a multiboot image at 1 MiB, to be built by
#	as --32 -o guest.o guest.s && ld -m elf_i386 -Ttext 0x100000 --oformat binary -o guest.bin guest.o

	.set	TPM, 0xfed40000
	.set	COM1, 0x3f8

	.text
	.globl	_start
header:	.long	0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000)
	.long	header, header, 0, end, _start

_start:	mov	$end, %esp
	mov	$startup, %esi
	mov	$12, %ecx
	call	send
again:	mov	$extend, %esi
	mov	$65, %ecx
	call	send
	mov	$'.', %bl
	test	%eax, %eax
	jz	1f
	mov	$'!', %bl
1:	mov	$(COM1 + 5), %dx
2:	in	%dx, %al
	test	$0x20, %al
	jz	2b
	mov	$COM1, %dx
	mov	%bl, %al
	out	%al, %dx
	cmp	$'.', %bl
	je	again
3:	hlt
	jmp	3b

# send sends the command of %ecx bytes at %esi, and gives the response code in %eax.
send:	mov	TPM + 0x30, %eax		# the interface's kind
	and	$0xf, %eax
	cmp	$1, %eax
	jne	tis

	movl	$1, TPM + 0x08			# CRB: ask for the locality
	movl	$1, TPM + 0x40			# get ready
1:	testl	$1, TPM + 0x40
	jnz	1b
	mov	$(TPM + 0x80), %edi
	rep movsb
	movl	$1, TPM + 0x4c			# start
2:	testl	$1, TPM + 0x4c
	jnz	2b
	mov	TPM + 0x86, %eax
	bswap	%eax
	cmp	$0x182, %eax			# the answer did not come along, see above
	jne	3f
	xor	%eax, %eax
3:	ret

tis:	movb	$0x02, TPM			# TIS: ask for the locality
	movb	$0x40, TPM + 0x18		# get ready
1:	testb	$0x40, TPM + 0x18
	jz	1b
2:	lodsb
	mov	%al, TPM + 0x24
	loop	2b
	movb	$0x20, TPM + 0x18		# start
3:	mov	TPM + 0x18, %al
	and	$0x90, %al
	cmp	$0x90, %al
	jne	3b
	mov	$6, %ecx
4:	mov	TPM + 0x24, %al
	loop	4b
	mov	$4, %ecx
5:	shl	$8, %ebx
	mov	TPM + 0x24, %bl
	loop	5b
6:	testb	$0x10, TPM + 0x18		# and what is left
	jz	7f
	mov	TPM + 0x24, %al
	jmp	6b
7:	mov	%ebx, %eax
	ret

startup: .byte	0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0
extend:	.byte	0x80, 2, 0, 0, 0, 65, 0, 0, 1, 0x82, 0, 0, 0, 8
	.byte	0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0
	.byte	0, 0, 0, 1, 0, 0x0b
	.fill	32, 1, 1
	.fill	256, 1, 0
	.align	4
end:
