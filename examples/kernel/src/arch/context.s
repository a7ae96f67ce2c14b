# Switching between kernel threads. All other registers are the caller's to save, by the calling convention;
# the SSE registers of user mode are in the trap frame.

.text
.globl context_switch
context_switch:                         # (where to store the stack pointer, stack pointer to load)
    .irp register, rbx, rbp, r12, r13, r14, r15
    pushq %\register
    .endr
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    .irp register, r15, r14, r13, r12, rbp, rbx
    popq %\register
    .endr
    ret
