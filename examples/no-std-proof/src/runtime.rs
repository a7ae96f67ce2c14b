//! What a program needs that has neither std nor a C library under it.

use core::arch::{asm, global_asm};
use core::panic::PanicInfo;

// The kernel enters with the stack pointer aligned to 16 and no return address.
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call proof_main", "ud2");

// The prebuilt compiler_builtins of a hosted target leaves these to the C library. In assembly, so that the
// compiler cannot turn their loops into calls of themselves.
global_asm!(
    ".globl memcpy",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    ".globl memset",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    ".globl memmove",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "cmp rdi, rsi",
    "jbe 2f",
    "lea rdi, [rdi + rcx - 1]",
    "lea rsi, [rsi + rcx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    "2:",
    "rep movsb",
    "ret",
    ".globl memcmp",
    ".globl bcmp",
    "memcmp:",
    "bcmp:",
    "xor eax, eax",
    "mov rcx, rdx",
    "cmp rcx, rcx",
    "repe cmpsb",
    "je 3f",
    "movzx eax, byte ptr [rdi - 1]",
    "movzx ecx, byte ptr [rsi - 1]",
    "sub eax, ecx",
    "3:",
    "ret",
);

/// Ends the process.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: exit_group (231) takes a code, touches no memory of ours and does not return.
    unsafe { asm!("syscall", in("rax") 231, in("rdi") code, options(noreturn)) }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(100)
}

/// Named by the prebuilt core, which was compiled to unwind; this program aborts.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
