//! What an embedder chooses when it sets a system up.

use crate::pv::PvLocking;

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
}
