//! Physical memory before and below the pmap: where things are, and the kernel's heap.

pub(crate) mod heap;
pub(crate) mod layout;
