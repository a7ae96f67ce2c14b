//! The protocol alone, in every order that a scheduler can think of: one list lock, two address spaces, and what may happen
//! to a page's mappings behind a dropped lock. Small mappings and large ones stand on two lists under the one
//! lock, as pages and the 2 MiB runs around them do, and move between them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc as HostArc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec::Vec;

use shuttle::sync::{Arc, Mutex, MutexGuard};
use shuttle::thread;

use super::{Against, Inner, Outer, against_order};

/// Index of an address space; each maps the page once at most.
type Space = usize;
const SPACES: usize = 2;

#[derive(Default)]
struct Lists {
    small: Vec<Space>,
    large: Vec<Space>,
    generation: u64,
}

/// Whether the space maps the page, and by a large mapping.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mapped {
    No,
    Small,
    Large,
}

struct World {
    spaces: [Mutex<Mapped>; SPACES],
    lists: Mutex<Lists>,
    recheck: bool,
    /// How often something had changed behind the dropped lock, over all schedules.
    changes: HostArc<AtomicUsize>,
}

struct Held<'w> {
    world: &'w World,
    guard: Option<MutexGuard<'w, Lists>>,
}

impl<'w> Held<'w> {
    fn new(world: &'w World) -> Self {
        Self { world, guard: Some(world.lists.lock().unwrap()) }
    }

    fn lists(&mut self) -> &mut Lists {
        self.guard.as_mut().unwrap()
    }
}

impl Inner for Held<'_> {
    fn release(&mut self) {
        self.guard = None;
    }

    fn take(&mut self) {
        self.guard = Some(self.world.lists.lock().unwrap());
    }

    fn generation(&self) -> u64 {
        self.guard.as_ref().unwrap().generation
    }
}

impl<'w> Outer for &'w Mutex<Mapped> {
    type Guard = MutexGuard<'w, Mapped>;

    fn try_lock(&self) -> Option<Self::Guard> {
        Mutex::try_lock(self).ok()
    }

    fn lock(&self) -> Self::Guard {
        Mutex::lock(self).unwrap()
    }
}

fn take_off(list: &mut Vec<Space>, space: Space) {
    let at = list.iter().position(|s| *s == space).expect("the entry is on this list");
    list.remove(at);
}

impl World {
    fn new(recheck: bool, changes: &HostArc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            spaces: std::array::from_fn(|_| Mutex::new(Mapped::Small)),
            lists: Mutex::new(Lists { small: (0..SPACES).collect(), ..Lists::default() }),
            recheck,
            changes: HostArc::clone(changes),
        })
    }

    /// Locks in order and moves the mapping from one list to the other.
    fn promote(&self, space: Space) {
        let mut mapped = self.spaces[space].lock().unwrap();
        if *mapped == Mapped::Small {
            let mut held = Held::new(self);
            let lists = held.lists();
            take_off(&mut lists.small, space);
            lists.large.push(space);
            lists.generation += 1;
            *mapped = Mapped::Large;
        }
    }

    /// Locks in order and unmaps.
    fn remove(&self, space: Space) {
        let mut mapped = self.spaces[space].lock().unwrap();
        let mut held = Held::new(self);
        let lists = held.lists();
        match *mapped {
            Mapped::No => return,
            Mapped::Small => take_off(&mut lists.small, space),
            Mapped::Large => take_off(&mut lists.large, space),
        }
        lists.generation += 1;
        *mapped = Mapped::No;
    }

    /// From the page to its mappings: splits the large ones, then removes the small ones; from the beginning
    /// after every change.
    fn remove_all(&self) {
        let mut held = Held::new(self);
        loop {
            let large = held.lists().large.first().copied();
            let Some(space) = large.or_else(|| held.lists().small.first().copied()) else { return };
            let mut mapped = match against_order(&mut held, &&self.spaces[space], self.recheck) {
                Against::AtOnce(guard) | Against::Unchanged(guard) => guard,
                Against::Changed => {
                    self.changes.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            let lists = held.lists();
            if large.is_some() {
                assert_eq!(*mapped, Mapped::Large, "the list and the space agree");
                take_off(&mut lists.large, space);
                lists.small.push(space);
                *mapped = Mapped::Small;
            } else {
                assert_eq!(*mapped, Mapped::Small, "the list and the space agree");
                take_off(&mut lists.small, space);
                *mapped = Mapped::No;
            }
            lists.generation += 1;
        }
    }
}

/// Two who come from the page, one who promotes, and one who unmaps. At the end nothing may be mapped.
fn scene(world: &Arc<World>) {
    let run = |f: fn(&World)| {
        let world = Arc::clone(world);
        thread::spawn(move || f(&world))
    };
    let threads = [
        run(World::remove_all),
        run(|w| (0..SPACES).for_each(|space| w.promote(space))),
        run(|w| w.remove(1)),
        run(World::remove_all),
    ];
    threads.into_iter().for_each(|t| t.join().unwrap());
    let lists = world.lists.lock().unwrap();
    assert!(lists.small.is_empty() && lists.large.is_empty());
    assert!(world.spaces.iter().all(|space| *space.lock().unwrap() == Mapped::No));
}

/// Runs the scene in many orders; returns how often something had changed behind a dropped lock.
fn explore(recheck: bool) -> usize {
    let changes = HostArc::new(AtomicUsize::new(0));
    let run = HostArc::clone(&changes);
    shuttle::check_random(move || scene(&World::new(recheck, &run)), 20_000);
    let run = HostArc::clone(&changes);
    shuttle::check_pct(move || scene(&World::new(recheck, &run)), 10_000, 3);
    changes.load(Ordering::Relaxed)
}

#[test]
fn a_promotion_behind_the_dropped_lock_is_noticed() {
    assert!(explore(true) > 1000, "the scene is too tame");
}

#[test]
fn a_generation_that_is_not_compared_is_noticed() {
    let outcome = catch_unwind(AssertUnwindSafe(|| explore(false)));
    assert!(outcome.is_err(), "some order must go wrong");
}
