//! The turnstiles under the hosted scheduler, with real threads.
#![cfg(feature = "std")]

mod lending;
mod mutex;
mod order;
mod rwlock;
mod stress;
mod support;
