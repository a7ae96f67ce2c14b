//! A recorded trace as the kernel replays it: the file `trace` of the boot module, written by `pmaplab kernel --program replay`.
//! Both programs are built from this module, so that there is one description of the format.
//!
//! The host has done all planning. Every CPU has a list of steps, to be taken in their order; a step says which steps of
//! other CPUs must have been taken before. Every wait points back in the order of the recording, so the replay cannot
//! come to a stand. Space and object numbers are dense, from 1, so that they may index arrays.
//!
//! # Format, version 1
//! Fixed-size numbers are little-endian. `varint` is LEB128: seven bits per byte, the lowest first, the top bit set in all
//! bytes but the last.
//!
//! | part | contents |
//! |---|---|
//! | header, 32 bytes | `"pmaptrce"`, version `u32`, CPUs `u32`, spaces `u32`, objects `u32`, events `u64` |
//! | objects, 16 bytes each | pages `u64`, kind `u32` (0 file, 1 shared anonymous, 2 the kernel's own), 0 `u32` |
//! | CPUs, 24 bytes each | offset of its steps `u64`, their length in bytes `u64`, their number `u32`, 0 `u32` |
//! | steps | those of one CPU after the other |
//! | trailer, 8 bytes | FNV-1a (64 bits) of all bytes before it |
//!
//! A step is: its kind (one byte); how many waits there are (varint), and for each the CPU and the place in its list, from 0
//! (varints); its arguments. Those of an event start with its place in the recording and its space (varints).
//!
//! | kind | arguments (varints) |
//! |---|---|
//! | 0 activate | space, 0 for none: what the CPU runs from now on |
//! | 1 map | first page, pages, rights (1 read, 2 write, 4 execute; 8 shared), object (0: private anonymous), page of the object |
//! | 2 unmap | first page, pages |
//! | 3 protect | first page, pages, rights |
//! | 4 fault | exact address, error code of the hardware |
//! | 5 advise | first page, pages, advice (0: throw away, 1: may be thrown away, 2: no effect) |
//! | 6 remap | old first page, old pages (may be 0), new first page, new pages |
//! | 7 fork | new space |
//! | 8 exec | new space |
//! | 9 exit | |
//!
//! [`Stream::open`] checks what can be checked at once, with the sum; [`Steps`] checks each step as it is decoded. No input
//! makes either panic.
#![allow(dead_code, unused_imports, reason = "the host writes and the kernel reads: neither uses all of it")]

mod cursor;
mod error;
mod step;
mod stream;

pub(crate) use error::StreamError;
pub(crate) use step::{Action, Advice, Event, Op, Step, Wait, Waits};
pub(crate) use stream::{Object, ObjectKind, Steps, Stream};

/// The first bytes.
pub(crate) const MAGIC: [u8; 8] = *b"pmaptrce";
/// The version described above.
pub(crate) const VERSION: u32 = 1;
/// Bytes of the header.
pub(crate) const HEADER: usize = 32;
/// Bytes of an object's entry.
pub(crate) const OBJECT: usize = 16;
/// Bytes of a CPU's entry.
pub(crate) const CPU: usize = 24;
/// Bytes of the sum at the end.
pub(crate) const TRAILER: usize = 8;

/// Kinds of steps.
pub(crate) mod kind {
    pub(crate) const ACTIVATE: u8 = 0;
    pub(crate) const MAP: u8 = 1;
    pub(crate) const UNMAP: u8 = 2;
    pub(crate) const PROTECT: u8 = 3;
    pub(crate) const FAULT: u8 = 4;
    pub(crate) const ADVISE: u8 = 5;
    pub(crate) const REMAP: u8 = 6;
    pub(crate) const FORK: u8 = 7;
    pub(crate) const EXEC: u8 = 8;
    pub(crate) const EXIT: u8 = 9;
}

/// In the rights of a mapping: stores are seen by others.
pub(crate) const SHARED: u64 = 8;

/// FNV-1a, 64 bits: notices damage, not malice.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
