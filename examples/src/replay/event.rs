//! One recorded event, applied.

use std::sync::Arc;

use pmap::{Access, VirtAddr};

use super::skipped::{Reason, Skipped};
use crate::trace::{Advice, FaultCode, MapArgs, Op, Trace};
use crate::vm::{Backing, Cpu, RemapError, Space, Touch, Vm, VmError, Vma};

pub(super) struct Replayer<'r, 's> {
    pub(super) vm: &'r Vm<'s>,
    pub(super) trace: &'r Trace,
    pub(super) skipped: &'r Skipped,
}

impl<'s> Replayer<'_, 's> {
    /// Applies the event with this index.
    pub(super) fn event(&self, cpu: &mut Cpu<'s>, index: usize) -> Result<(), VmError> {
        let event = &self.trace.events[index];
        let fault = matches!(event.op, Op::Fault(..));
        match self.apply(cpu, event.space, &event.op)? {
            Ok(()) => {}
            Err(reason) => self.skipped.add(reason, fault),
        }
        Ok(())
    }

    fn apply(&self, cpu: &mut Cpu<'s>, number: u32, op: &Op) -> Result<Result<(), Reason>, VmError> {
        let vm = self.vm;
        if let Op::Exec(new) = op {
            // The old space lives on, for other threads or until its exit.
            let Some(space) = vm.create(cpu, *new)? else { return Ok(Err(Reason::SpaceExists)) };
            vm.activate(cpu, &space);
            return Ok(Ok(()));
        }
        if *op == Op::Exit {
            let there = vm.exit(cpu, number)?;
            return Ok(if there { Ok(()) } else { Err(Reason::NoSuchSpace) });
        }
        let Some(space) = vm.space(number) else { return Ok(Err(Reason::NoSuchSpace)) };
        let mapped = |there: bool| if there { Ok(()) } else { Err(Reason::NothingMapped) };
        Ok(match op {
            Op::Map(args) => vm.map(&space, vma(args)).map_err(|_| Reason::Occupied),
            Op::Unmap(range) => {
                vm.activate(cpu, &space);
                mapped(vm.unmap(&space, *range) > 0)
            }
            Op::Protect(range, protection) => {
                vm.activate(cpu, &space);
                mapped(vm.protect(&space, *range, *protection) > 0)
            }
            Op::Advise(range, Advice::DontNeed) => {
                vm.activate(cpu, &space);
                mapped(vm.discard(&space, *range))
            }
            Op::Advise(range, Advice::Free) => mapped(vm.offer(&space, *range)),
            Op::Advise(_, Advice::Other) => Ok(()),
            Op::Fault(va, code) => return self.fault(cpu, &space, *va, *code),
            Op::Remap(old, new) => {
                vm.activate(cpu, &space);
                vm.remap(&space, *old, *new).map_err(|e| match e {
                    RemapError::NotMapped => Reason::NothingMapped,
                    RemapError::Occupied => Reason::Occupied,
                })
            }
            Op::Fork(child) => {
                vm.activate(cpu, &space);
                vm.fork(cpu, &space, *child)?.map(|_| ()).ok_or(Reason::SpaceExists)
            }
            Op::Exec(_) | Op::Exit => Ok(()),
        })
    }

    /// The recorded program faulted here: the simulated CPU accesses the same address in the same way.
    fn fault(
        &self,
        cpu: &mut Cpu<'s>,
        space: &Arc<Space<'s>>,
        va: VirtAddr,
        code: FaultCode,
    ) -> Result<Result<(), Reason>, VmError> {
        Ok(match self.vm.access(cpu, space, va, code.access())? {
            Touch::Done => Ok(()),
            Touch::NotMapped => Err(Reason::FaultNotMapped),
            Touch::NotPermitted => Err(Reason::FaultNotPermitted),
            // The plan orders the fault after the advice that would make it busy.
            Touch::Busy => return Err(VmError::Broken("a page fault met advice that comes before it")),
        })
    }

    /// Makes a full access to a place where this CPU has been: a store, if the mapping permits it.
    pub(super) fn retouch(&self, cpu: &mut Cpu<'s>) -> Result<(), VmError> {
        let Some((space, va)) = cpu.somewhere() else { return Ok(()) };
        let access = if cpu.dice.one_in(2) { Access::Write } else { Access::Read };
        // Nothing orders this against other CPUs: it may find the place gone, and that is fine. A store
        // to a private page of a file would make a copy that the recorded program never had, so it stays with
        // pages that are private already.
        let access = if self.vm.may_store_in_place(&space, va) { access } else { Access::Read };
        if self.vm.access(cpu, &space, va, access)? != Touch::Done {
            self.vm.met_race();
        }
        Ok(())
    }
}

fn vma(args: &MapArgs) -> Vma {
    Vma {
        range: args.range,
        protection: args.protection,
        backing: Backing { object: args.object, first_page: args.first_page, shared: args.shared },
    }
}
