# The first instructions. QEMU (PVH) and GRUB (Multiboot2) enter in 32-bit protected mode without paging, EBX
# pointing to what they tell. From there: temporary tables, long mode, and the kernel's half of the addresses.
#
# Temporary tables: the first 4 GiB by pages of 2 MiB, three times: at their own addresses (for these
# instructions), in the direct map, and (1 GiB of them) where the image is linked. Real tables follow in Rust.

.set KERNEL_BASE, 0xffffffff80000000
.set PRESENT_WRITE, 0x3
.set LARGE, 0x83

.set CR0_PE, 1 << 0
.set CR0_MP, 1 << 1
.set CR0_EM, 1 << 2
.set CR0_TS, 1 << 3
.set CR0_NE, 1 << 5
.set CR0_WP, 1 << 16
.set CR0_NW, 1 << 29
.set CR0_CD, 1 << 30
.set CR0_PG, 1 << 31
.set CR4_PAE, 1 << 5
.set CR4_OSFXSR, 1 << 9
.set CR4_OSXMMEXCPT, 1 << 10
.set MSR_EFER, 0xc0000080
.set EFER_LME, 1 << 8

# "Here I am entered": an ELF note of type XEN_ELFNOTE_PHYS32_ENTRY. A section of its own segment.
.section .note.pvh, "a", @note
.balign 4
    .long 4                             # length of the name
    .long 8                             # length of the value
    .long 18                            # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_start - KERNEL_BASE

# The same for Multiboot2 (specification, 3.1).
.set MULTIBOOT2, 0xe85250d6
.set MULTIBOOT2_I386, 0
.set MULTIBOOT2_ENTRY_ADDRESS, 3
.set MULTIBOOT2_ALIGN_MODULES, 6
.section .boot.header, "a"
.balign 8
multiboot2_header:
    .long MULTIBOOT2
    .long MULTIBOOT2_I386
    .long multiboot2_header_end - multiboot2_header
    .long 0x100000000 - (MULTIBOOT2 + MULTIBOOT2_I386 + (multiboot2_header_end - multiboot2_header))
    .word MULTIBOOT2_ENTRY_ADDRESS, 0
    .long 12
    .long multiboot2_start - KERNEL_BASE
    .balign 8
    .word MULTIBOOT2_ALIGN_MODULES, 0
    .long 8
    .word 0, 0                          # the end
    .long 8
multiboot2_header_end:

.section .boot.text, "ax"
.code32
multiboot2_start:
    movl $1, %esi                       # boot::MULTIBOOT2
    movl %ebx, %edi
    jmp to_long_mode

.globl pvh_start
pvh_start:
    movl $0, %esi                       # boot::PVH
    movl %ebx, %edi

# ESI: who booted us. EDI: physical address of what it tells.
to_long_mode:
    cli
    cld
    movl $(boot_stack_end - KERNEL_BASE), %esp

    # 2048 large pages: four page directories in a row.
    movl $(boot_directories - KERNEL_BASE), %ebx
    movl $LARGE, %eax
    xorl %ecx, %ecx
1:  movl %eax, (%ebx, %ecx, 8)
    addl $0x200000, %eax
    incl %ecx
    cmpl $2048, %ecx
    jne 1b

    # The four directories in one table of pointers, from 0; the first also in another one, from 2 GiB
    # below the end.
    movl $(boot_pointers_low - KERNEL_BASE), %ebx
    movl $(boot_directories - KERNEL_BASE + PRESENT_WRITE), %eax
    movl %eax, boot_pointers_high - KERNEL_BASE + 510 * 8
    xorl %ecx, %ecx
2:  movl %eax, (%ebx, %ecx, 8)
    addl $0x1000, %eax
    incl %ecx
    cmpl $4, %ecx
    jne 2b

    movl $(boot_pointers_low - KERNEL_BASE + PRESENT_WRITE), %eax
    movl %eax, boot_root - KERNEL_BASE
    movl %eax, boot_root - KERNEL_BASE + 256 * 8
    movl $(boot_pointers_high - KERNEL_BASE + PRESENT_WRITE), %eax
    movl %eax, boot_root - KERNEL_BASE + 511 * 8

    xorl %ebp, %ebp                     # the boot CPU

# EBP: 0 on the boot CPU, 1 on another one.
enter_long_mode:
    # Rust's code uses SSE registers everywhere: enable them before any of it.
    movl $(CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT), %eax
    movl %eax, %cr4
    movl $(boot_root - KERNEL_BASE), %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME, %eax
    wrmsr
    movl %cr0, %eax
    andl $~(CR0_EM | CR0_TS | CR0_CD | CR0_NW), %eax    # a CPU is reset with its caches off
    orl $(CR0_PG | CR0_WP | CR0_NE | CR0_MP | CR0_PE), %eax
    movl %eax, %cr0

    lgdt boot_gdt_pointer - KERNEL_BASE
    ljmp $0x08, $(in_long_mode - KERNEL_BASE)

.code64
in_long_mode:
    movabsq $in_high_half, %rax
    jmp *%rax
in_high_half:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    testl %ebp, %ebp
    jnz other_cpu
    movabsq $boot_stack_end, %rsp
    # kmain(info, protocol). The upper halves of these are undefined after the change of mode.
    movl %edi, %edi
    movl %esi, %esi
    call kmain
    ud2
other_cpu:
    movq ap_stack(%rip), %rsp
    movq ap_cpu(%rip), %rdi
    xorl %ebp, %ebp
    call ap_main
    ud2

# Where other CPUs begin, in real mode: `smp.rs` copies this to TRAMPOLINE, below 1 MiB.
.set TRAMPOLINE, 0x8000
.code16
.globl ap_trampoline
ap_trampoline:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl TRAMPOLINE + (ap_gdt_pointer - ap_trampoline)
    movl %cr0, %eax
    orl $CR0_PE, %eax
    movl %eax, %cr0
    ljmpl $0x18, $(ap_protected - KERNEL_BASE)
.balign 4
ap_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .long boot_gdt - KERNEL_BASE
.globl ap_trampoline_end
ap_trampoline_end:

.code32
ap_protected:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $1, %ebp
    jmp enter_long_mode
.code64

.section .rodata.boot, "a"
.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 64-bit code
    .quad 0x00cf93000000ffff            # data
    .quad 0x00cf9b000000ffff            # 32-bit code
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1
    .long boot_gdt - KERNEL_BASE

# What the CPU that is starting shall run on; one starts at a time.
.section .data.boot, "aw"
.balign 8
.globl ap_stack
ap_stack:   .quad 0
.globl ap_cpu
ap_cpu:     .quad 0

.section .bss.boot, "aw", @nobits
.balign 4096
boot_root:          .skip 4096
boot_pointers_low:  .skip 4096
boot_pointers_high: .skip 4096
boot_directories:   .skip 4 * 4096
.globl boot_stack
boot_stack:         .skip 64 * 1024
.globl boot_stack_end
boot_stack_end:
.text
