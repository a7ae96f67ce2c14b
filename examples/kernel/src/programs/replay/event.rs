//! One recorded event, done.

use pmap::{Access, VirtRange};

use super::lane::Lane;
use super::shadow::{Region, Shadow, Source};
use super::spaces::Living;
use super::tally::What;
use crate::trace::{Advice, Event, Op};
use crate::vm::{Backing, LimitReached, Limits, RemapError, Shortage, Space, Vma};

/// The access that a hardware error code is of (Intel SDM vol. 3, 4.7).
fn access(code: u8) -> Access {
    if code & 2 != 0 {
        Access::Write
    } else if code & 16 != 0 {
        Access::Execute
    } else {
        Access::Read
    }
}

impl Lane {
    /// Does it, or counts why not.
    pub(super) fn event(&mut self, event: &Event) {
        if let Err(reason) = self.apply(event) {
            self.replay.tally.add(reason);
        }
    }

    fn apply(&mut self, event: &Event) -> Result<(), What> {
        match event.op {
            Op::Exec(new) => return self.exec(new),
            Op::Exit => return self.exit(event.space),
            _ => {}
        }
        let living = self.replay.spaces.get(event.space).ok_or(What::NoSuchSpace)?;
        self.enter(&living);
        let mapped = |there: bool| if there { Ok(()) } else { Err(What::NothingMapped) };
        match event.op {
            Op::Map { range, protection, shared, object, first_page } => {
                let source = (object != 0).then_some(Source { object, page: first_page });
                self.map(&living, range, Region { protection, is_shared: shared, source })
            }
            Op::Unmap(range) => {
                let there = change(
                    &living,
                    range,
                    |shadow| shadow.unmap(range),
                    || unlimited(living.space.unmap(range)),
                );
                mapped(there)
            }
            Op::Protect(range, protection) => {
                let protect = |shadow: &mut Shadow| shadow.protect(range, protection);
                mapped(change(&living, range, protect, || unlimited(living.space.protect(range, protection))))
            }
            Op::Advise(range, Advice::DontNeed) => {
                mapped(change(&living, range, |shadow| shadow.discard(range), || living.space.discard(range)))
            }
            // Such pages may become zero at any time: here they never do.
            Op::Advise(_, Advice::Free | Advice::Other) => Err(What::NoEffect),
            Op::Fault(va, code) => self.access(&living, va, access(code)),
            Op::Remap(old, new) => self.remap(&living, old, new),
            Op::Fork(child) => self.fork(&living, child),
            Op::Exec(_) | Op::Exit => Ok(()),
        }
    }

    fn map(&mut self, living: &Living, range: VirtRange, region: Region) -> Result<(), What> {
        let backing =
            match region.source.and_then(|source| Some((self.replay.object(source.object)?, source.page))) {
                None => Backing::Anonymous,
                Some((object, first)) if region.is_shared => Backing::Shared { object, first },
                Some((object, first)) => Backing::Private { object, first },
            };
        let vma = Vma { range, protection: region.protection, backing };
        let (mut inserted, mut has_room) = (false, false);
        change(
            living,
            range,
            |shadow| {
                has_room = shadow.map(range, region);
                has_room
            },
            || inserted = living.space.insert(vma).is_ok(),
        );
        self.agree(living, range, "a mapping", has_room, inserted);
        if inserted { Ok(()) } else { Err(What::Occupied) }
    }

    fn remap(&mut self, living: &Living, old: VirtRange, new: VirtRange) -> Result<(), What> {
        let mut wanted = Ok(());
        let mut done = Ok(());
        change(
            living,
            old,
            |shadow| {
                if !shadow.has_mapping(old.start()) {
                    wanted = Err(RemapError::NotMapped);
                } else if !shadow.has_room(old, new) {
                    wanted = Err(RemapError::Occupied);
                } else {
                    shadow.remap(old, new);
                }
                wanted.is_ok()
            },
            || done = living.space.remap(old, new),
        );
        self.agree(living, new, "a move", wanted.is_ok(), done.is_ok());
        done.map_err(|error| match error {
            RemapError::NotMapped => What::NothingMapped,
            RemapError::Occupied => What::Occupied,
        })
    }

    /// The kernel's map and the model must be of one opinion.
    fn agree(&self, living: &Living, range: VirtRange, what: &str, wanted: bool, done: bool) {
        if wanted != done {
            let done = if done { "accepted" } else { "refused" };
            self.wrong(living, range.start(), format_args!("has {what} {done} that must not be"));
        }
    }

    fn exec(&mut self, new: u32) -> Result<(), What> {
        let space = Space::new(self.replay.vm, Limits::NONE).map_err(|shortage| self.no_memory(shortage))?;
        self.add(Living::new(new, space, Shadow::new(new)))?;
        if let Some(living) = self.replay.spaces.get(new) {
            self.enter(&living);
        }
        Ok(())
    }

    fn fork(&mut self, living: &Living, number: u32) -> Result<(), What> {
        let space = living.space.fork().map_err(|shortage| self.no_memory(shortage))?;
        let shadow = living.shadow.lock().fork(number);
        self.add(Living::new(number, space, shadow))?;
        self.poke_shared_pages(living);
        Ok(())
    }

    fn add(&self, living: Living) -> Result<(), What> {
        self.replay.spaces.add(living).map_err(|refused| {
            refused.space.clear();
            What::SpaceExists
        })
    }

    fn no_memory(&self, _: Shortage) -> What {
        self.replay.vm.violations().note(format_args!("there is no frame for the root of an address space"));
        self.replay.ledger.stop();
        What::NoSuchSpace
    }

    /// Ends a space: everybody leaves it, its pages are looked at for the last time, and all that it has goes.
    pub(super) fn exit(&mut self, number: u32) -> Result<(), What> {
        let living = self.replay.spaces.take(number).ok_or(What::NoSuchSpace)?;
        self.enter(&living);
        self.sweep(&living);
        self.leave();
        living.ask_to_leave();
        self.replay.ledger.wake_all();
        self.replay.end(living);
        Ok(())
    }
}

/// The spaces of a replay have no limits.
fn unlimited(changed: Result<(), LimitReached>) {
    debug_assert!(changed.is_ok(), "there is no limit to reach");
}

/// Changes ranges in the model and in the space. In between no look at it proves anything.
fn change(
    living: &Living,
    range: VirtRange,
    model: impl FnOnce(&mut Shadow) -> bool,
    space: impl FnOnce(),
) -> bool {
    let there = {
        let mut shadow = living.shadow.lock();
        shadow.begin_change();
        model(&mut shadow)
    };
    space();
    living.shadow.lock().end_change(range);
    there
}
