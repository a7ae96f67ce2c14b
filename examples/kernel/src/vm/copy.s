# Copies bytes between kernel and user addresses. A page fault in the middle is resolved like one of the program's; if it
# cannot be, the kernel goes on at copy_user_failed. The string instruction keeps in RCX what is left to do, so that it goes on
# where it was after a fault that was resolved.

.section .text.copy_user, "ax"
.globl copy_user
.globl copy_user_move
.globl copy_user_moved
.globl copy_user_failed
copy_user:                              # (to, from, bytes) -> bytes that were not copied
    movq %rdx, %rcx
copy_user_move:
    rep movsb
copy_user_moved:
copy_user_failed:
    movq %rcx, %rax
    ret
.text
