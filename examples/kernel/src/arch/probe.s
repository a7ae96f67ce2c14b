# Accesses that may fault: each says 0 if it did not and 1 if it did (`probe.rs` moves a faulting one there).

.section .text.probe, "ax"
.globl probe_read
.globl probe_read_at
probe_read:
    xorl %eax, %eax
probe_read_at:
    movb (%rdi), %cl
    ret

.globl probe_write
.globl probe_write_at
probe_write:                            # (address, byte)
    xorl %eax, %eax
probe_write_at:
    movb %sil, (%rdi)
    ret

# Calls the address. The fault is reported there, with our address on the stack.
.globl probe_execute
.globl probe_executed
probe_execute:
    xorl %eax, %eax
    call *%rdi
probe_executed:
    ret

.globl probe_faulted
probe_faulted:
    movl $1, %eax
    ret
.text
