//! The operations, one file per kind.

mod activate;
mod aging;
mod copy;
mod enter;
mod kernel;
mod leaf;
mod page;
mod protect;
mod query;
mod remove;
mod reversal;
