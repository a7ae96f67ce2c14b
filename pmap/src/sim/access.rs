//! Accesses by simulated programs.

use super::baton::Event;
use super::machine::SimMachine;
use super::mmu::{Board, PageFault, Request};
use crate::{Access, VirtAddr};

impl SimMachine {
    /// Loads the 8 bytes at `va` in user mode on the current CPU, through its TLB and the root that is
    /// current on it.
    ///
    /// # Errors
    ///
    /// The page fault that the access raises. A retry after the fault has been resolved can fault again:
    /// somebody may have unmapped the page meanwhile.
    ///
    /// # Panics
    ///
    /// If `va` is not a multiple of 8, the calling thread is no CPU of this machine, or the machine is
    /// poisoned.
    #[inline]
    pub fn read(&self, va: VirtAddr) -> Result<u64, PageFault> {
        self.access(Request { va, access: Access::Read, user: true, value: 0 })
    }

    /// Stores 8 bytes at `va` in user mode. As [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); nothing has been stored.
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    #[inline]
    pub fn write(&self, va: VirtAddr, value: u64) -> Result<(), PageFault> {
        self.access(Request { va, access: Access::Write, user: true, value }).map(|_| ())
    }

    /// Fetches 8 bytes of instructions at `va` in user mode. As [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    #[inline]
    pub fn fetch(&self, va: VirtAddr) -> Result<u64, PageFault> {
        self.access(Request { va, access: Access::Execute, user: true, value: 0 })
    }

    /// Loads 8 bytes at `va` with supervisor rights: for kernel mappings.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    pub fn supervisor_read(&self, va: VirtAddr) -> Result<u64, PageFault> {
        self.access(Request { va, access: Access::Read, user: false, value: 0 })
    }

    /// Stores 8 bytes at `va` with supervisor rights; read-only mappings are respected (CR0.WP).
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); nothing has been stored.
    ///
    /// # Panics
    ///
    /// As [`read`](Self::read).
    pub fn supervisor_write(&self, va: VirtAddr, value: u64) -> Result<(), PageFault> {
        self.access(Request { va, access: Access::Write, user: false, value }).map(|_| ())
    }

    fn access(&self, request: Request) -> Result<u64, PageFault> {
        assert!(
            request.va.0.is_multiple_of(8),
            "an access is 8 bytes wide and aligned, {} is not",
            request.va
        );
        let cpu = self.here();
        let deterministic = self.doorbells.turns.is_some();
        if deterministic {
            self.point_of(cpu, Event::Access, request.va.0);
        } else {
            self.poll(cpu);
        }
        self.stop_if_poisoned();
        let board = Board { memory: &self.memory, ledger: &self.ledger, cpu };
        self.mmu(cpu).access(board, request, &mut || self.in_walk(cpu))
    }

    /// Between two steps of a walk others may run; interrupts are taken between accesses only (INV-M-4).
    #[inline]
    fn in_walk(&self, cpu: usize) {
        if let Some(turns) = &self.doorbells.turns {
            turns.point(cpu, Event::Walk, 0, &self.doorbells.bells);
        }
    }

    /// Lets the current CPU, `cpu`, fill a translation before it does anything else under a root that it has loaded.
    pub(super) fn speculate_anew(&self, cpu: usize) {
        let board = Board { memory: &self.memory, ledger: &self.ledger, cpu };
        self.mmu(cpu).speculate_anew(board, &mut || self.in_walk(cpu));
    }

    /// Lets the current CPU, `cpu`, fill a translation although it makes no access.
    pub(super) fn speculate_idly(&self, cpu: usize) {
        let board = Board { memory: &self.memory, ledger: &self.ledger, cpu };
        self.mmu(cpu).speculate_idly(board, &mut || self.in_walk(cpu));
    }
}
