# One word of user memory, loaded or stored by one instruction. Each function says 0 if it was, and 1 if the processor refused
# (`visit.rs` moves a fault there that is not to be resolved, or cannot be). It goes by the address of the instruction whether a
# fault is resolved, so there are two functions of each kind.

# The beginning of a function whose access, at the label, may fault.
.macro access name
.globl \name
.globl \name\()_at
\name:
    xorl %eax, %eax
\name\()_at:
.endm

.macro load name                        # (from, to)
    access \name
    movq (%rdi), %rcx
    movq %rcx, (%rsi)
    ret
.endm

.macro store name                       # (to, value)
    access \name
    movq %rsi, (%rdi)
    ret
.endm

.section .text.user_word, "ax"
    load load_word
    load peek_word
    store store_word
    store poke_word

.globl word_refused
word_refused:
    movl $1, %eax
    ret
.text

.purgem access
.purgem load
.purgem store
