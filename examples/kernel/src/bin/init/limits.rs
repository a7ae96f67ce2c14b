//! What a program can have at most: whoever asks for more gets an error, and everything goes on.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{Backing, READ, WRITE};
use crate::call;
use crate::stamp::PAGE;

/// Nothing is mapped there, nor far behind it.
const HERE: u64 = 0x20_0000_0000;
/// Memory that all processes share: whether those that wait may end, and what a copy has found.
const SHARED: u64 = HERE - PAGE;
/// More than there may be of anything that is counted one by one.
const MANY: u64 = 2000;
/// More pages than can be mapped.
const MANY_PAGES: u64 = 1 << 20;

/// A word of the shared page.
fn shared(index: usize) -> &'static AtomicU64 {
    // SAFETY: mapped by `hold`, in all copies, and never unmapped; only used as words like this.
    unsafe {
        &*core::ptr::with_exposed_provenance::<AtomicU64>(SHARED as usize + index * size_of::<AtomicU64>())
    }
}

fn go() -> &'static AtomicU64 {
    shared(0)
}

/// The texts of the checks, and whether they pass.
pub(crate) fn checks() -> [(&'static str, bool); 6] {
    [
        ("a process has any number of ranges", ranges()),
        ("a range can be cut into any number", cuts()),
        (
            "any number of pages can be mapped",
            call::map(HERE, MANY_PAGES, READ, Backing::Anonymous, 0).is_err(),
        ),
        (
            "any page of shared memory can be mapped",
            call::map(HERE, 1, READ, Backing::Shared, MANY_PAGES).is_err(),
        ),
        ("there are any number of processes", processes()),
        ("a process has any number of threads", threads()),
    ]
}

/// Whether there is an end to mapping, and everything can be unmapped then.
fn ranges() -> bool {
    let at = |index: u64| HERE + 2 * index * PAGE;
    let mapped = (0..MANY).take_while(|index| call::map(at(*index), 1, READ, Backing::Anonymous, 0).is_ok());
    let mapped = mapped.count() as u64;
    0 < mapped && mapped < MANY && call::unmap(HERE, 2 * MANY).is_ok()
}

/// Whether there is an end to cutting a range up, by rights and by holes.
fn cuts() -> bool {
    let at = |index: u64| HERE + (2 * index + 1) * PAGE;
    let ends = |cut: &dyn Fn(u64) -> bool| {
        let mapped = call::map(HERE, 2 * MANY, READ, Backing::Anonymous, 0).is_ok();
        let done = (0..MANY - 1).take_while(|index| cut(at(*index))).count() as u64;
        mapped && 0 < done && done < MANY - 1 && call::unmap(HERE, 2 * MANY).is_ok()
    };
    ends(&|at| call::protect(at, 1, READ | WRITE).is_ok()) && ends(&|at| call::unmap(at, 1).is_ok())
}

/// Whether there is an end to copying the process; the copies wait until it has come.
fn processes() -> bool {
    if call::map(SHARED, 1, READ | WRITE, Backing::Shared, 0).is_err() {
        return false;
    }
    let mut children = [0; MANY as usize];
    let mut forked = 0;
    while forked < children.len() {
        match call::fork() {
            Ok(0) => wait_and_end(0),
            Ok(child) => children[forked] = child,
            Err(_) => break,
        }
        forked += 1;
    }
    go().store(1, Ordering::Relaxed); // ORD: Relaxed; looked at again and again
    let ended = children[..forked].iter().all(|child| call::wait(*child) == Ok(0));
    0 < forked && forked < children.len() && ended
}

/// Whether there is an end to threads, which wait until it has come. A copy of the process tries it, so that its end is the end of all of them.
fn threads() -> bool {
    go().store(0, Ordering::Relaxed); // ORD: Relaxed; the fork comes after it
    match call::fork() {
        Ok(0) => {
            let spawned = (0..MANY).take_while(|index| {
                let stack = HERE + 2 * index * PAGE;
                let mapped = call::map(stack, 1, READ | WRITE, Backing::Anonymous, 0);
                mapped.and_then(|()| call::spawn(wait_and_end, stack + PAGE, *index, 100)).is_ok()
            });
            shared(1).store(spawned.count() as u64, Ordering::Relaxed); // ORD: Relaxed; the end of the process comes after it
            go().store(1, Ordering::Relaxed); // ORD: as in `processes`
            call::exit(0)
        }
        Ok(child) => {
            let ended = call::wait(child) == Ok(0);
            // A range for each stack would come to an end, too, but later.
            let spawned = shared(1).load(Ordering::Relaxed); // ORD: as above
            ended && (1..100).contains(&spawned)
        }
        Err(_) => false,
    }
}

extern "C" fn wait_and_end(_: u64) -> ! {
    // ORD: Relaxed; looked at again and again.
    while go().load(Ordering::Relaxed) == 0 {
        call::sleep(1);
    }
    call::exit(0)
}
