//! The price of a section in locked instructions, counted as the processor executes them: one to append, two to
//! remove.
//!
//! The test sets the trap flag, so the processor raises `SIGTRAP` after every instruction, and the handler looks at the
//! next instruction's bytes. What this cannot see: what other threads' interference would add (restarts, helping), and what an
//! instruction costs. `.ci/assembly` compares the instructions of the release build, executed or not, with a committed list.
#![cfg(all(target_arch = "x86_64", target_os = "linux", not(any(dcas_queue_fallback, miri))))]

use std::arch::asm;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dcas_queue::pair::is_lock_free;
use dcas_queue::{Node, Queue};

/// The first bytes of each locked instruction, in the order of execution.
static SEEN: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];
static LOCKED: AtomicUsize = AtomicUsize::new(0);
static EXECUTED: AtomicUsize = AtomicUsize::new(0);

/// Looks at the instruction that comes next. Async-signal-safe: touches three atomics.
extern "C" fn on_trap(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with `SA_SIGINFO` the third argument is the interrupted thread's context.
    let context = unsafe { &*context.cast::<libc::ucontext_t>() };
    let at = context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize;
    let code: *const [u8; 8] = std::ptr::with_exposed_provenance(at);
    // SAFETY: the processor is about to execute here, and the program's text goes on for more than 8 bytes.
    let bytes = unsafe { code.read_unaligned() };
    EXECUTED.fetch_add(1, Ordering::Relaxed);
    if is_locked(&bytes) {
        let n = LOCKED.fetch_add(1, Ordering::Relaxed);
        if let Some(seen) = SEEN.get(n) {
            seen.store(u64::from_be_bytes(bytes), Ordering::Relaxed);
        }
    }
}

/// Whether the bytes are an instruction that locks: `LOCK` (F0), or `XCHG` with memory, which locks without it.
fn is_locked(bytes: &[u8]) -> bool {
    // Operand size, segment and REX prefixes may come before.
    let mut rest = bytes
        .iter()
        .copied()
        .skip_while(|byte| matches!(byte, 0x66 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65));
    match rest.next() {
        Some(0xf0) => true,
        Some(0x40..=0x4f) => {
            matches!((rest.next(), rest.next()), (Some(0x86 | 0x87), Some(modrm)) if modrm < 0xc0)
        }
        Some(0x86 | 0x87) => rest.next().is_some_and(|modrm| modrm < 0xc0),
        _ => false,
    }
}

/// What a locked instruction is: the opcode after prefixes.
fn name(code: u64) -> &'static str {
    let bytes = code.to_be_bytes();
    let opcode =
        bytes.iter().position(|byte| *byte == 0x0f).map(|at| (bytes[at + 1], bytes[at + 2] >> 3 & 7));
    match opcode {
        Some((0xc7, 1)) => "cmpxchg16b",
        Some((0xba, 5)) => "bts",
        Some((0xb0 | 0xb1, _)) => "cmpxchg",
        _ => "another",
    }
}

/// Runs `work` step by step and returns its locked instructions and how many it executed in all.
fn trace<R>(work: impl FnOnce() -> R) -> (Vec<&'static str>, usize, R) {
    LOCKED.store(0, Ordering::Relaxed);
    EXECUTED.store(0, Ordering::Relaxed);
    // The first trap comes after the instruction that follows `popfq`: the `nop`.
    // SAFETY: sets the trap flag (bit 8 of RFLAGS); the handler returns to wherever the trap came from. The red zone is
    // left alone: no `nostack`.
    unsafe { asm!("pushfq", "or dword ptr [rsp], 0x100", "popfq", "nop") };
    let result = work();
    // SAFETY: clears it again.
    unsafe { asm!("pushfq", "and dword ptr [rsp], ~0x100", "popfq") };
    let n = LOCKED.load(Ordering::Relaxed);
    let names = SEEN[..n.min(SEEN.len())].iter().map(|seen| name(seen.load(Ordering::Relaxed))).collect();
    (names, EXECUTED.load(Ordering::Relaxed), result)
}

#[test]
fn one_to_append_and_two_to_remove() {
    assert!(is_lock_free(), "every x86-64 processor that can run this has CMPXCHG16B");
    let mut action: libc::sigaction = {
        // SAFETY: all zeros is a `sigaction`: the default handler, no flags, an empty mask.
        unsafe { std::mem::zeroed() }
    };
    action.sa_sigaction = on_trap as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler is async-signal-safe, and nothing else in this process uses SIGTRAP.
    assert_eq!(unsafe { libc::sigaction(libc::SIGTRAP, &raw const action, std::ptr::null_mut()) }, 0);

    // The counter counts: a locked addition, an exchange, and a plain one.
    let (atomic, executed) = (AtomicU64::new(0), AtomicU64::new(0));
    let (atomic, executed) = (std::hint::black_box(&atomic), std::hint::black_box(&executed));
    let (names, ..) = trace(|| {
        atomic.fetch_add(1, Ordering::Relaxed);
        executed.swap(1, Ordering::Relaxed);
        executed.load(Ordering::Relaxed)
    });
    assert_eq!(names.len(), 2, "{names:?}");

    let (queue, nodes) = (Queue::new(0), [const { Node::new() }; 5]);
    for (open, node) in nodes.iter().enumerate() {
        // The first run of all decides about the instructions and is not counted.
        // SAFETY: nodes and queue outlive the test; one thread; the node is idle. The same below.
        let append = || unsafe { queue.append(node, NonZeroU64::MIN, ()) };
        // SAFETY: as above; in the queue.
        let remove = || unsafe { queue.remove(node, ()) };
        let (begin, executed, payload) = trace(append);
        payload.expect("small");
        println!("append behind {open}: {executed} instructions, locked: {begin:?}");
        assert_eq!(begin, ["cmpxchg16b"], "behind {open} open sections");
        let (finish, executed, _) = trace(remove);
        println!("remove behind {open}: {executed} instructions, locked: {finish:?}");
        assert_eq!(finish, ["bts", "cmpxchg16b"], "behind {open} open sections");
        // SAFETY: as above.
        unsafe { queue.append(node, NonZeroU64::MIN, ()) }.expect("small");
    }
    let (watermark, executed, _) = trace(|| queue.watermark());
    println!("watermark: {executed} instructions, locked: {watermark:?}");
    assert!(watermark.is_empty());
}
