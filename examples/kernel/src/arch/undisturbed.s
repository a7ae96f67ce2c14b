# Does an interrupt leave everything as it was? Keeps a pattern wherever a function that calls nothing may: in the
# red zone, in all SSE registers and in the general registers that a handler would use.

.section .text.undisturbed, "ax"
.globl undisturbed
undisturbed:                            # (0: enables interrupts for a moment; 1: enters the bare gate) -> what has changed
    movabsq $0x5aa5c33c0ff09669, %rcx
    .irp offset, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128
    movq %rcx, -\offset(%rsp)
    .endr
    .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movq %rcx, %xmm\number
    .endr
    .irp register, rdx, rsi, r8, r9, r10, r11
    movq %rcx, %\register
    .endr
    testl %edi, %edi
    jnz 1f
    sti
    nop                                 # taken before the second instruction after STI
    nop
    cli
    jmp 2f
1:  int $BARE_GATE
2:  xorl %eax, %eax
    .irp register, rdx, rsi, r8, r9, r10, r11
    cmpq %rcx, %\register
    je 3f
    incl %eax
3:
    .endr
    .irp offset, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128
    cmpq %rcx, -\offset(%rsp)
    je 3f
    incl %eax
3:
    .endr
    .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    movq %xmm\number, %rdx
    cmpq %rcx, %rdx
    je 3f
    incl %eax
3:
    .endr
    ret

# Behind a gate without a stack of its own, whose handler saves nothing: what every entry would do without `trap.s`.
.globl bare_entry
bare_entry:
    pxor %xmm7, %xmm7
    iretq
.text
