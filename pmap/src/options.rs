//! What an embedder chooses when it sets a system up.

use crate::pv::PvLocking;
use crate::tlb::TlbMethod;

/// Choices for a [`System`](crate::System).
///
/// ```
/// use pmap::{Options, PvLocking};
///
/// let options = Options { pv_locking: PvLocking::PerRun, ..Options::default() };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How pages share the locks of their PV lists; hashed by default.
    pub pv_locking: PvLocking,
    /// Most pages that may hold PV entries, 168 each; no limit by default. At the limit, as without memory, mappings are
    /// taken away from whoever has the oldest.
    pub pv_chunk_limit: Option<u64>,
    /// How cached translations are managed; by default with the best of what the machine's processors have.
    pub tlb: Option<TlbMethod>,
    /// Whether an operation gathers what it invalidates and flushes once, as it does by default; otherwise it flushes for each
    /// translation, as soon as that is gone. Either is right: this is for measuring what gathering is worth.
    pub batching: bool,
    /// Whether CPUs that do not run an address space are spared the interrupts for it, as they are by default; otherwise every CPU in
    /// service is interrupted, whatever it runs. Either is right: this is for measuring what knowing the targets is worth.
    pub lazy_targets: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pv_locking: PvLocking::default(),
            pv_chunk_limit: None,
            tlb: None,
            batching: true,
            lazy_targets: true,
        }
    }
}
