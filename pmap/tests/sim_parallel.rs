//! The pmap on the software machine in parallel mode: all CPUs at once in shared address spaces, and nothing
//! that a guarantee forbids. The other test programs of this folder use the deterministic mode.

mod support;

use gencount::Implementation;
use pmap::sim::{Adversary, Config, Mutex, RwLock, SimMachine};
use pmap::{Access, EnterFlags, Frame, Pmap, Protection, System, VirtAddr, VirtRange};
use support::{assert_clean, cpu, system};

const CPUS: usize = 4;
const PAGES: u64 = 24;
const ROUNDS: u64 = 3000;

fn va(page: u64) -> VirtAddr {
    // Spread over several page tables, so that tables come and go too.
    VirtAddr(0x4000_0000 + (page % 4) * 0x20_0000 + page * 0x1000)
}

/// A page of an imaginary object. Shared: somebody maps it; exclusive: somebody takes it away.
type Page = RwLock<Option<Frame>>;

/// One step of one CPU, chosen by `dice`.
fn step(system: &System<SimMachine>, spaces: &[Pmap<'_, SimMachine>], pages: &[Page], dice: u64) {
    let machine = system.machine();
    let space = &spaces[(dice >> 8) as usize % spaces.len()];
    let page = (dice >> 16) % PAGES;
    let both = Protection::READ | Protection::WRITE;
    match (dice >> 32) % 16 {
        0 => space.remove(VirtRange::page_of(va(page))),
        1 => {
            let end = va(page).0 + 0x3000;
            space.remove(VirtRange::new(va(page), VirtAddr(end)).expect("aligned"));
        }
        2 => space.protect(VirtRange::page_of(va(page)), Protection::READ),
        3 | 4 => {
            // Page out: taken from everybody, freed, and soon reused.
            let mut slot = pages[page as usize].write();
            if let Some(frame) = slot.take() {
                system.remove_all(system.page(frame).expect("managed"));
                machine.free_data_frame(frame);
            }
        }
        5 => {
            let slot = pages[page as usize].write();
            if let Some(frame) = *slot {
                let page = system.page(frame).expect("managed");
                system.remove_write(page);
                // Nobody can store now: two looks see the same.
                let words = machine.frame_words(frame);
                let look = || words[0].load(std::sync::atomic::Ordering::SeqCst);
                assert_eq!(look(), look());
            }
        }
        6 => space.activate(),
        kind => {
            let access = if kind < 11 { Access::Write } else { Access::Read };
            let result = match access {
                Access::Write => machine.write(va(page), dice),
                _ => machine.read(va(page)).map(|_| ()),
            };
            if let Err(fault) = result {
                fault_in(system, spaces, pages, page, fault.access, both);
            }
        }
    }
}

fn fault_in(
    system: &System<SimMachine>,
    spaces: &[Pmap<'_, SimMachine>],
    pages: &[Page],
    page: u64,
    access: Access,
    prot: Protection,
) {
    let slot = &pages[page as usize];
    if slot.read().is_none() {
        let mut slot = slot.write();
        if slot.is_none() {
            *slot = system.machine().allocate_data_frame(true);
        }
    }
    let slot = slot.read();
    let current = spaces.iter().find(|space| space.is_current());
    if let (Some(frame), Some(space)) = (*slot, current) {
        space.enter(va(page), frame, prot, access, EnterFlags::empty()).expect("enough frames");
    }
}

#[test]
fn cpus_in_parallel_keep_every_guarantee() {
    for (seed, di) in (1..).zip(Implementation::ALL) {
        let adversary = Adversary { pause_one_in: 256, ..Adversary::fierce() };
        let system = system(Config { cpus: CPUS, frames: 512, seed, di, adversary, ..Config::default() });
        let machine = system.machine();
        let spaces: Vec<_> = machine.run_cpu(cpu(0), || {
            system.start_cpu();
            (0..2).map(|_| system.create().expect("enough frames")).collect()
        });
        let pages: Vec<Page> = (0..PAGES).map(|_| RwLock::new(None)).collect();
        let steps = Mutex::new(0);
        machine
            .run_cpus(|id| {
                if id != cpu(0) {
                    system.start_cpu();
                }
                spaces[id.index() % 2].activate();
                let mut dice = seed + 77 * id.index() as u64;
                for _ in 0..ROUNDS {
                    dice =
                        dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    step(&system, &spaces, &pages, dice ^ (dice >> 29));
                }
                *steps.lock() += ROUNDS;
                system.activate_kernel();
            })
            .expect("threads");
        assert_eq!(steps.into_inner(), CPUS as u64 * ROUNDS);
        let report = machine.report();
        assert!(
            report.stale_before_guarantee > 0 && report.pages_reused > 0 && report.ipis > 0,
            "{report:?}"
        );
        machine.run_cpu(cpu(0), || {
            assert_clean(&system);
            for space in spaces {
                assert!(space.destroy().is_ok());
            }
            for frame in pages.into_iter().filter_map(RwLock::into_inner) {
                machine.free_data_frame(frame);
            }
        });
        assert_clean(&system);
        assert_eq!(machine.report().frames_in_use[0], 0, "every data frame has come back");
    }
}
