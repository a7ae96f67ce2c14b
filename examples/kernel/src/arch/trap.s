# Entries into the kernel, and the way back.
#
# The red zone. Code of the prebuilt core library keeps values in the 128 bytes below its stack pointer, so the
# processor must not push there: every gate begins on a stack of its own. From there the entry hops at once,
# with interrupts off, to where a handler may nest and be preempted: from user mode to the top of the
# thread's kernel stack, from the kernel to 128 bytes below the interrupted stack pointer. SSE registers are
# saved with the others, for Rust uses them everywhere.
#
# The frame, upwards: 512 bytes of FXSAVE, 15 registers, vector, error code, and what the processor pushed
# (RIP, CS, RFLAGS, RSP, SS). `trap::TrapFrame` is the same in Rust.

.set STACK_TOP, 0                       # percpu::PerCpu
.set USER_STACK, 8
.set USER_CODE, 0x23                    # descriptors.rs
.set USER_DATA, 0x1b
.set SYSTEM_CALL, 256                   # trap.rs

.text

# One stub per vector, 16 bytes each. Those vectors for which the processor pushes no error code push 0.
.balign 16
.globl trap_stubs
trap_stubs:
.set vector, 0
.rept 256
    .balign 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    pushq $0
    .endif
    pushq $vector
    .if (vector == 2) || (vector == 8) || (vector == 18)
    jmp trap_on_own_stack
    .else
    jmp trap_entry
    .endif
    .set vector, vector + 1
.endr

.balign 16
trap_entry:
    pushq %rax
    pushq %rcx
    # Here are, upwards: RCX, RAX, vector, error code, RIP, CS (40), RFLAGS, RSP (56), SS.
    testb $3, 40(%rsp)
    jnz 1f
    movq 56(%rsp), %rax
    subq $128, %rax
    andq $-16, %rax
    jmp 2f
1:  swapgs
    movq %gs:STACK_TOP, %rax
2:  subq $72, %rax
    .irp offset, 0, 8, 16, 24, 32, 40, 48, 56, 64
    movq \offset(%rsp), %rcx
    movq %rcx, \offset(%rax)
    .endr
    movq %rax, %rsp
    popq %rcx
    popq %rax

.macro save_registers
    .irp register, rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, rbx, rbp, r12, r13, r14, r15
    pushq %\register
    .endr
    subq $512, %rsp
    fxsave64 (%rsp)
    ldmxcsr kernel_mxcsr(%rip)
    cld
    # User mode chooses its own AC, and with it whether SMAP holds.
    testb $1, clear_ac(%rip)
    jz 9f
    clac
9:  xorl %ebp, %ebp
    movq %rsp, %rdi
.endm

enter_dispatch:
    save_registers
    call trap_dispatch

# RSP: a frame. Interrupts are off.
.globl trap_return
trap_return:
    fxrstor64 (%rsp)
    addq $512, %rsp
    .irp register, r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax
    popq %\register
    .endr
    # Here are, upwards: vector, error code, RIP (16), CS (24), RFLAGS (32), RSP (40), SS.
    testb $3, 24(%rsp)
    jz 2f
    cmpq $SYSTEM_CALL, (%rsp)
    je 3f
1:  swapgs
2:  addq $16, %rsp
    iretq
    # SYSRET is faster. With an address that is not canonical it would fault in the kernel, on the user's stack;
    # IRETQ faults on ours.
3:  movq 16(%rsp), %rcx
    movq %rcx, %r11
    shrq $47, %r11
    jnz 1b
    movq 32(%rsp), %r11
    movq 40(%rsp), %rsp
    swapgs
    sysretq

.balign 16
.globl syscall_entry
syscall_entry:                          # RCX: where it came from. R11: RFLAGS. Interrupts are off.
    swapgs
    movq %rsp, %gs:USER_STACK
    movq %gs:STACK_TOP, %rsp
    pushq $USER_DATA
    pushq %gs:USER_STACK
    pushq %r11
    pushq $USER_CODE
    pushq %rcx
    pushq $0
    pushq $SYSTEM_CALL
    jmp enter_dispatch

# Double fault, non-maskable interrupt, machine check: may come anywhere, so GS is whoever's it is. The
# handler stays on the gate's stack and does not return.
.balign 16
trap_on_own_stack:
    save_registers
    call trap_fatal
    ud2

# (frame): leaves for user mode, or wherever the frame says.
.globl trap_enter
trap_enter:
    cli
    movq %rdi, %rsp
    jmp trap_return

.section .rodata.trap, "a"
.balign 4
kernel_mxcsr: .long 0x1f80
.section .data.trap, "aw"
.globl clear_ac
clear_ac: .byte 0
.text
