//! A system beside its model: three address spaces on three CPUs of a software machine, and a plain model of what
//! they should be. Programs of operations come from bytes, so that property tests and the fuzzer share all of this.
//!
//! CPUs take turns: what they leave behind in their TLBs is what makes it interesting. Several that run at the same time
//! are the subject of other tests.
#![allow(dead_code, reason = "each program that includes this uses a part")]

mod apply;
mod compare;
mod model;
mod op;
mod reclaim;

use std::mem::ManuallyDrop;

use gencount::Implementation;
use pmap::mutation::Mutation;
use pmap::sim::{Adversary, Config, CpuModel, SimMachine};
use pmap::{
    CpuId, Frame, HoldsRefused, Options, PageRecord, Pmap, Protection, PvLocking, Statistics, System,
};

use model::Model;
pub(crate) use op::Op;
use op::{CPUS, PAGES, SPACES, UNMANAGED};

/// What a program runs on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) di: Implementation,
    pub(crate) cpu_model: CpuModel,
    /// So few that they run out, or more than are needed.
    pub(crate) pcids: u16,
    /// Memory domains.
    pub(crate) domains: usize,
    pub(crate) pv_locking: PvLocking,
    /// There may be no more PV chunks than so many, so mappings are taken away and speculation gives up.
    pub(crate) pv_chunk_limit: Option<u64>,
    /// As in [`Options`].
    pub(crate) batching: bool,
    /// As in [`Options`].
    pub(crate) lazy_targets: bool,
    /// The machine does nothing unasked, so that accessed bits are exactly known.
    pub(crate) tame: bool,
    pub(crate) seed: u64,
    pub(crate) mutation: Option<Mutation>,
}

impl Setting {
    /// Any number is a setting; what the choices leave of it is the seed.
    pub(crate) fn from_number(number: u64) -> Self {
        let mut left = number;
        let mut choose = |among: usize| {
            let choice = left % among as u64;
            left /= among as u64;
            choice as usize
        };
        let di = Implementation::ALL[choose(3)];
        let cpu_model = CpuModel::ALL[choose(CpuModel::ALL.len())];
        Self {
            di: if cpu_model.can_run(di) { di } else { Implementation::Locked },
            cpu_model,
            tame: choose(2) == 0,
            pv_locking: [PvLocking::Hashed, PvLocking::PerRun][choose(2)],
            // None, or 1 to 3.
            pv_chunk_limit: choose(6).checked_sub(2).map(|limit| limit as u64).filter(|limit| *limit > 0),
            // Fewer than address spaces and the kernel's need, so that they run out all the time; or enough.
            pcids: [3, 64][choose(2)],
            domains: 1 + choose(3),
            batching: choose(3) > 0,
            lazy_targets: choose(3) > 0,
            seed: left,
            mutation: None,
        }
    }

    fn config(&self) -> Config {
        let adversary = if self.tame { Adversary::tame() } else { Adversary::fierce() };
        Config {
            cpus: CPUS,
            cpu_model: self.cpu_model,
            pcids: self.pcids,
            domains: self.domains,
            frames: 320,
            seed: self.seed,
            di: self.di,
            adversary,
            ..Config::default()
        }
    }
}

pub(crate) struct World<'s> {
    system: &'s System<SimMachine>,
    setting: Setting,
    spaces: [Option<Pmap<'s, SimMachine>>; SPACES],
    frames: [Frame; PAGES],
    refusals: [Option<HoldsRefused<'s>>; PAGES],
    model: Model,
    /// What the system had before there was any address space.
    before: Statistics,
    /// Mappings that had been taken away for their PV entries when the model was last told.
    reclaimed: u64,
    /// Number of the operation: what stores store.
    step: u64,
}

fn cpu(index: usize) -> CpuId {
    CpuId::new(index).expect("few CPUs")
}

impl<'s> World<'s> {
    fn new(system: &'s System<SimMachine>, setting: Setting) -> Self {
        let machine = system.machine();
        machine.run_cpu(cpu(0), || {
            system.start_cpu();
            let before = system.statistics();
            let frames = std::array::from_fn(|_| machine.allocate_data_frame(true).expect("a frame"));
            let unmanaged = system.page(frames[UNMANAGED]).expect("a record");
            system.set_unmanaged(unmanaged, true).expect("not mapped yet");
            let mut model = Model::default();
            model.cpus[0].in_service = true;
            Self {
                system,
                setting,
                spaces: std::array::from_fn(|_| Some(system.create().expect("a space"))),
                frames,
                refusals: [const { None }; PAGES],
                model,
                before,
                reclaimed: 0,
                step: 0,
            }
        })
    }

    fn space(&self, index: usize) -> &Pmap<'s, SimMachine> {
        self.spaces[index].as_ref().expect("always there")
    }

    /// What a mapping permits that is to permit `prot`.
    fn granted(&self, prot: Protection) -> Protection {
        if self.setting.cpu_model.has_no_execute() { prot } else { prot | Protection::EXECUTE }
    }

    fn record(&self, page: usize) -> &'s PageRecord {
        self.system.page(self.frames[page]).expect("a record")
    }

    /// One operation on its CPU, which is brought into service if it is not; then everything is compared.
    fn step(&mut self, op: Op) {
        self.step += 1;
        let system = self.system;
        system.machine().run_cpu(cpu(op.cpu), || {
            if !self.model.cpus[op.cpu].in_service {
                system.start_cpu();
                self.model.cpus[op.cpu].in_service = true;
            }
            self.apply(op);
            self.compare(op.cpu);
            if matches!(op.kind, op::Kind::StopCpu) {
                system.stop_cpu();
                self.model.cpus[op.cpu] = model::Cpu::default();
            }
        });
    }

    /// Everything is given up, and must come back.
    fn finish(mut self) {
        let system = self.system;
        let machine = system.machine();
        for index in 0..CPUS {
            if self.model.cpus[index].in_service {
                machine.run_cpu(cpu(index), || system.activate_kernel());
            }
        }
        self.refusals = [const { None }; PAGES];
        machine.run_cpu(cpu(0), || {
            system.start_cpu();
            self.empty_the_kernel_window();
            for space in self.spaces.into_iter().flatten() {
                space.destroy().expect("active nowhere");
            }
            for page in 0..PAGES {
                let record = system.page(self.frames[page]).expect("a record");
                while system.unhold(record) {}
            }
            self.frames.into_iter().for_each(|frame| machine.free_data_frame(frame));
            compare::assert_clean(system);
            let after = system.statistics();
            let held = |s: &Statistics| (s.pv_entries, s.pv_chunks, s.pt_pages);
            assert_eq!(held(&after), held(&self.before), "all memory came back");
        });
    }
}

/// Runs a program and compares system and model after every operation.
///
/// # Panics
///
/// At the first difference, with the operations up to there.
pub(crate) fn run(program: &[Op], setting: Setting) {
    // On a panic the history is what one wants to see.
    struct History<'a>(&'a [Op], usize);
    impl Drop for History<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0[..self.1].iter().enumerate().for_each(|(n, op)| eprintln!("{n}: {op:?}"));
            }
        }
    }
    let machine = SimMachine::new(setting.config()).expect("a machine");
    let options = Options {
        pv_locking: setting.pv_locking,
        pv_chunk_limit: setting.pv_chunk_limit,
        batching: setting.batching,
        lazy_targets: setting.lazy_targets,
        ..Options::default()
    };
    let system = System::with_options(machine, options).expect("a system");
    // After a panic nothing in the machine can be taken down properly.
    let mut world = ManuallyDrop::new(World::new(&system, setting));
    system.set_mutation(setting.mutation);
    let mut history = History(program, 0);
    for op in program {
        history.1 += 1;
        world.step(*op);
    }
    ManuallyDrop::into_inner(world).finish();
}
