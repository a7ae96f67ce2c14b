//! INVLPGB and TLBSYNC: invalidations that go to all CPUs without an interrupt.
//!
//! A CPU may do what it has been sent at any time; at the latest when the sender executes TLBSYNC, which waits for that
//! CPU's own broadcasts only (H-80). So each CPU keeps a list of what it still has to do, and by whom it was sent.

use std::format;
use std::vec::Vec;

use super::machine::SimMachine;
use crate::translation::{Invlpgb, Stride};

/// Sent invalidations that a CPU has not done yet.
#[derive(Default)]
pub(super) struct Broadcasts(Vec<(usize, Invlpgb)>);

impl Broadcasts {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn send(&mut self, issuer: usize, what: Invlpgb) {
        self.0.push((issuer, what));
    }

    /// Those of CPU `issuer`, or all, in the order in which they were sent.
    pub(super) fn take(&mut self, issuer: Option<usize>) -> Vec<Invlpgb> {
        let wanted = |from: usize| issuer.is_none_or(|issuer| issuer == from);
        let taken = self.0.iter().filter(|(from, _)| wanted(*from)).map(|(_, what)| *what).collect();
        self.0.retain(|(from, _)| !wanted(*from));
        taken
    }
}

impl SimMachine {
    /// INVLPGB on CPU `cpu`, the caller's.
    pub(super) fn broadcast(&self, cpu: usize, what: Invlpgb) {
        let Some(most) = self.features.invlpgb else {
            return self.ledger.forbidden(|| format!("cpu {cpu} executes INVLPGB and has none"));
        };
        if what.more > most {
            self.ledger.forbidden(|| {
                format!("cpu {cpu}: INVLPGB of {} more pages, and {most} is the limit", what.more)
            });
        }
        let aligned =
            what.va.is_none_or(|va| what.stride == Stride::Page || va.0.is_multiple_of(what.stride.bytes()));
        if !aligned {
            self.ledger.forbidden(|| format!("cpu {cpu}: an unaligned INVLPGB of large pages: {what:?}"));
        }
        // ORD: Relaxed; a counter.
        self.broadcasts.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        for target in 0..self.cpus.len() {
            self.mmu(target).broadcasts.send(cpu, what);
        }
    }

    /// TLBSYNC on CPU `cpu`, the caller's.
    pub(super) fn wait_for_broadcasts(&self, cpu: usize) {
        if self.features.invlpgb.is_none() {
            return self.ledger.forbidden(|| format!("cpu {cpu} executes TLBSYNC and has none"));
        }
        for target in 0..self.cpus.len() {
            // The lock is held for the whole of an access, so what the target does now is over when we have it.
            self.mmu(target).catch_up(&self.memory, Some(cpu));
        }
    }
}
