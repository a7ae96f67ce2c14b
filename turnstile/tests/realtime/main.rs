//! Priority inheritance shown on Linux's own scheduling: FIFO threads pinned to one processor.
//!
//! Each scenario runs twice: with the loans of [`LinuxRt`], and, as the counter-proof, on the same code with a scheduler that
//! takes no notice of loans. A high thread waits for what low threads own while a middle thread hogs the processor: with loans it
//! goes on while the hog still runs, without them only after it. Every hog ends by itself after a fraction of a second.
//!
//! Skipped, with a printed reason, where the privilege is missing.
#![cfg(all(feature = "linux-rt", target_os = "linux"))]

mod collisions;
mod inversion;
mod nice;
mod scene;
mod scheduling;
