//! CPUs that switch between more address spaces than there are PCIDs, use pages in them, take pages away in all of them, running there
//! or not, and map and unmap kernel pages.

use pmap::sim::{Adversary, Config, CpuModel, Mode, Mutex, Report, SimMachine};
use pmap::{Access, EnterFlags, Frame, Options, Pmap, Protection, System, VirtAddr, VirtRange};

use crate::support::replay::Settings;
use crate::support::{cpu, system_with};

const SPACES: usize = 4;
const PAGES: usize = 3;
const KERNEL_PAGES: usize = 2;

/// What is played, and on what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) cpu_model: CpuModel,
    pub(crate) pcids: u16,
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    /// Acknowledgements are early where they may be.
    pub(crate) early: bool,
    pub(crate) options: Options,
}

impl Scene {
    /// What distinguishes it from the others of a test.
    pub(crate) fn settings(self) -> Settings {
        vec![
            ("PMAP_MODEL", self.cpu_model.to_string()),
            ("PMAP_PCIDS", self.pcids.to_string()),
            ("PMAP_SEED", self.seed.to_string()),
            ("PMAP_BATCHING", self.options.batching.to_string()),
            ("PMAP_LAZY_TARGETS", self.options.lazy_targets.to_string()),
        ]
    }
}

type Slot = Mutex<Option<Frame>>;

struct World<'s> {
    system: &'s System<SimMachine>,
    spaces: Vec<Pmap<'s, SimMachine>>,
    pages: [[Slot; PAGES]; SPACES],
    kernel: [Slot; KERNEL_PAGES],
}

fn va(page: usize) -> VirtAddr {
    // One leaf table each, so that tables come and go.
    VirtAddr(0x4000_0000 + page as u64 * 0x20_1000)
}

impl World<'_> {
    fn step(&self, dice: u64) {
        let machine = self.system.machine();
        let (space, page) = ((dice >> 8) as usize % SPACES, (dice >> 16) as usize % PAGES);
        let own = self.spaces.iter().position(|space| space.is_current());
        match (dice >> 32) % 16 {
            0..4 => self.spaces[space].activate(),
            4 => self.take_away(space, page),
            5 => {
                let _slot = self.pages[space][page].lock();
                self.spaces[space].protect(VirtRange::page_of(va(page)), Protection::READ);
            }
            6 => {
                if let Some(frame) = *self.pages[space][page].lock() {
                    self.system.remove_write(self.system.page(frame).expect("managed"));
                }
            }
            7 => self.kernel_page(dice as usize % KERNEL_PAGES),
            8 => {
                let _ = machine.supervisor_read(self.kernel_va(dice as usize % KERNEL_PAGES));
            }
            kind => {
                let access = if kind < 12 { Access::Write } else { Access::Read };
                let result = if access == Access::Write {
                    machine.write(va(page), dice)
                } else {
                    machine.read(va(page)).map(drop)
                };
                if let (Err(_), Some(own)) = (result, own) {
                    self.fault(own, page, access);
                }
            }
        }
    }

    fn fault(&self, space: usize, page: usize, access: Access) {
        let machine = self.system.machine();
        let mut slot = self.pages[space][page].lock();
        let Some(frame) = slot.or_else(|| machine.allocate_data_frame(true)) else { return };
        *slot = Some(frame);
        let both = Protection::READ | Protection::WRITE;
        let entered = self.spaces[space].enter(va(page), frame, both, access, EnterFlags::empty());
        entered.expect("enough frames");
    }

    fn take_away(&self, space: usize, page: usize) {
        let mut slot = self.pages[space][page].lock();
        self.spaces[space].remove(VirtRange::page_of(va(page)));
        if let Some(frame) = slot.take() {
            self.system.machine().free_data_frame(frame);
        }
    }

    fn kernel_va(&self, page: usize) -> VirtAddr {
        let window = pmap::Machine::kernel_window(self.system.machine());
        window.start().wrapping_add(0x1000 * page as u64)
    }

    fn kernel_page(&self, page: usize) {
        let (machine, at) = (self.system.machine(), self.kernel_va(page));
        let mut slot = self.kernel[page].lock();
        match slot.take() {
            Some(frame) => {
                self.system.qremove(at, 1).expect("in the window");
                machine.free_data_frame(frame);
            }
            None => {
                let Some(frame) = machine.allocate_data_frame(true) else { return };
                self.system.qenter(at, &[frame]).expect("in the window");
                *slot = Some(frame);
            }
        }
    }
}

/// Plays the scene on three CPUs, no further than to the first thing that must not be. `prepare` gets the system first.
pub(crate) fn play(scene: Scene, prepare: impl FnOnce(&System<SimMachine>)) -> (Report, pmap::Statistics) {
    let Scene { cpu_model, pcids, seed, steps, early, options } = scene;
    let adversary = Adversary { switch_one_in: 6, interrupt_delay: 2, ..Adversary::fierce() };
    let mode = Mode::Deterministic;
    let config = Config {
        cpus: 3,
        frames: 192,
        cpu_model,
        early_acknowledgements: early,
        pcids,
        seed,
        mode,
        adversary,
        ..Config::default()
    };
    let system = system_with(config, options);
    prepare(&system);
    let machine = system.machine();
    let world = World {
        system: &system,
        spaces: machine.run_cpu(cpu(0), || {
            system.start_cpu();
            (0..SPACES).map(|_| system.create().expect("enough frames")).collect()
        }),
        pages: std::array::from_fn(|_| std::array::from_fn(|_| Mutex::new(None))),
        kernel: std::array::from_fn(|_| Mutex::new(None)),
    };
    let body = |id: pmap::CpuId| {
        system.start_cpu();
        let mut dice = seed ^ (id.index() as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for _ in 0..steps {
            if !machine.report().is_clean() {
                break;
            }
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            world.step(dice ^ (dice >> 29));
        }
        system.activate_kernel();
    };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.run_cpus(body)));
    let seen = (machine.report(), system.statistics());
    if let Err(panic) = outcome {
        // Address spaces go down on a CPU, and none can run any more.
        world.spaces.into_iter().for_each(std::mem::forget);
        std::panic::resume_unwind(panic);
    }
    machine.run_cpu(cpu(0), || drop(world.spaces));
    seen
}
