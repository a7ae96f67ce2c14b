//! The operations, one file per kind.

mod activate;
mod advise;
mod aging;
mod contents;
mod copy;
mod enter;
mod kernel;
mod leaf;
mod page;
mod protect;
mod query;
mod remove;
mod reversal;

pub use advise::Advice;
pub(crate) use leaf::Mapping;
pub use query::{Mincore, PageWalk};
