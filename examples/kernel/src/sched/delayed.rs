//! The kernel's domain of delayed invalidation, in which every thread has a place.

use alloc::boxed::Box;

use gencount::{Domain, Implementation, Participant, Slot, dispatch};
use once_cell::race::OnceBox;

use super::scheduler::KernelScheduler;

static DOMAIN: OnceBox<Domain<KernelScheduler>> = OnceBox::new();

/// The domain. Its implementation is what the dispatch table chooses (by CPUID, or as the command line says) at the first call.
pub(crate) fn domain() -> &'static Domain<KernelScheduler> {
    DOMAIN.get_or_init(|| {
        // Without an environment there is no variable that could be bad.
        let implementation =
            dispatch::init().map_or(Implementation::Locked, |choice| choice.implementation());
        Box::new(Domain::new(implementation, KernelScheduler))
    })
}

/// A place in the domain, for a thread that is being made.
pub(super) fn join(slot: &'static Slot) -> Participant<KernelScheduler> {
    domain().join_with(slot).expect("a new slot is not taken")
}
