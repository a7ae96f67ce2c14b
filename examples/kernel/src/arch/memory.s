# The functions on memory that the compiler calls. In assembly, for the compiler recognises such loops in
# Rust and would replace them by calls of themselves.

.section .text.memory, "ax"
.globl memcpy
memcpy:
    movq %rdi, %rax
    movq %rdx, %rcx
    rep movsb
    ret

.globl memmove
memmove:
    movq %rdi, %rax
    movq %rdx, %rcx
    movq %rdi, %r8
    subq %rsi, %r8
    cmpq %rdx, %r8                      # destination inside the source: from the end
    jb 1f
    rep movsb
    ret
1:  leaq -1(%rdi, %rcx), %rdi
    leaq -1(%rsi, %rcx), %rsi
    std
    rep movsb
    cld
    ret

.globl memset
memset:
    movq %rdi, %r8
    movl %esi, %eax
    movq %rdx, %rcx
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
