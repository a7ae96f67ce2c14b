# The functions on memory that the compiler calls. In assembly, for the compiler recognises such loops in
# Rust and would replace them by calls of themselves. Copies and fills go by words of 8 bytes and end with the
# odd bytes: processors do either kind fast, but an emulator executes each repetition.

.section .text.memory, "ax"
.globl memcpy
memcpy:
    movq %rdi, %rax
forwards:
    movq %rdx, %rcx
    shrq $3, %rcx
    rep movsq
    movl %edx, %ecx
    andl $7, %ecx
    rep movsb
    ret

.globl memmove
memmove:
    movq %rdi, %rax
    movq %rdi, %r8
    subq %rsi, %r8
    cmpq %rdx, %r8                      # destination inside the source: from the end
    jae forwards
    movq %rdx, %rcx
    leaq -1(%rdi, %rcx), %rdi
    leaq -1(%rsi, %rcx), %rsi
    std
    rep movsb
    cld
    ret

.globl memset
memset:
    movq %rdi, %r8
    movzbl %sil, %esi
    movabsq $0x0101010101010101, %rax
    imulq %rsi, %rax                    # the byte in all eight places
    movq %rdx, %rcx
    shrq $3, %rcx
    rep stosq
    movl %edx, %ecx
    andl $7, %ecx
    rep stosb
    movq %r8, %rax
    ret

.globl memcmp
.globl bcmp
memcmp:
bcmp:
    xorl %eax, %eax
    movq %rdx, %rcx
    testq %rcx, %rcx
    jz 1f
    repe cmpsb
    je 1f
    movzbl -1(%rdi), %eax
    movzbl -1(%rsi), %ecx
    subl %ecx, %eax
1:  ret

.globl strlen
strlen:
    xorl %eax, %eax
1:  cmpb $0, (%rdi, %rax)
    je 2f
    incq %rax
    jmp 1b
2:  ret
.text
