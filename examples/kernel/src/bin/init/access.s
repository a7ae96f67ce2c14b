# Accesses that may meet a page fault which the kernel cannot resolve: it then goes on at access_failed. No stack frames in
# between, so that the return address is where it was.

.section .text.access, "ax"
.globl access_first
.globl try_store
.globl try_load
.globl access_end
.globl access_failed
access_first:
try_store:                              # (address, value) -> whether it was stored
    movq %rsi, (%rdi)
    movl $1, %eax
    ret
try_load:                               # (address, out) -> whether it was loaded
    movq (%rdi), %rax
access_end:
    movq %rax, (%rsi)
    movl $1, %eax
    ret
access_failed:
    xorl %eax, %eax
    ret
.text
