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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// How pages share the locks of their PV lists; hashed by default.
    pub pv_locking: PvLocking,
    /// Most pages that may hold PV entries, 168 each; no limit by default. At the limit, as without memory, mappings are
    /// taken away from whoever has the oldest.
    pub pv_chunk_limit: Option<u64>,
    /// How cached translations are managed; by default with the best of what the machine's processors have.
    pub tlb: Option<TlbMethod>,
}
