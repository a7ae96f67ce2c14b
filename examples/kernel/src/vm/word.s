# One word of user memory, loaded or stored by one instruction. Each function says 0 if it was, and 1 if the processor refused
# (`visit.rs` moves a fault there that is not to be resolved, or cannot be).

.section .text.user_word, "ax"
.globl load_word
.globl load_word_at
load_word:                              # (from, to)
    xorl %eax, %eax
load_word_at:
    movq (%rdi), %rcx
    movq %rcx, (%rsi)
    ret

.globl store_word
.globl store_word_at
store_word:                             # (to, value)
    xorl %eax, %eax
store_word_at:
    movq %rsi, (%rdi)
    ret

.globl peek_word
.globl peek_word_at
peek_word:                              # (from, to)
    xorl %eax, %eax
peek_word_at:
    movq (%rdi), %rcx
    movq %rcx, (%rsi)
    ret

.globl poke_word
.globl poke_word_at
poke_word:                              # (to, value)
    xorl %eax, %eax
poke_word_at:
    movq %rsi, (%rdi)
    ret

.globl word_refused
word_refused:
    movl $1, %eax
    ret
.text
