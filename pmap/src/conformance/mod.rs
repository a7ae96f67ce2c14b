//! Does a [`Machine`](crate::Machine) keep its promises? A suite that an embedder runs on its own machine.
//!
//! [`Machine`](crate::Machine)'s safety list cannot be checked by the compiler, and a broken promise shows late and far away. So
//! [`Suite`] tries every rule of the list that can be observed from outside. It runs on all CPUs at once, below an operating
//! system or as the first thing that a kernel does with its pmap; it needs neither std nor memory of its own.
//!
//! How: two frames hold different values. A page is mapped to the first and read, so that its translation is cached; the entry is
//! pointed at the second, and the page read again. As long as the old value comes the translation is stale, which is legal. Then
//! the machine is asked to invalidate, and from then on only the new value may come. A check in which the old value never came
//! has shown nothing, and [`Outcome::unobserved`] says so.
//!
//! What it cannot see: what happens once in a million; that *nothing else* writes to a frame; that an early acknowledgement is legal; that
//! [`tlb_features`](crate::Machine::tlb_features) tells too little; whatever a machine does only under memory pressure.
//!
//! ```
//! use pmap::conformance::Suite;
//! use pmap::sim::{Config, SimMachine};
//! use pmap::{CpuId, System};
//!
//! let system = System::new(SimMachine::new(Config { cpus: 2, ..Config::default() }).unwrap()).unwrap();
//! let machine = system.machine();
//! let suite = machine.run_cpu(CpuId::new(0).unwrap(), || {
//!     system.start_cpu();
//!     let frames = [0, 1].map(|_| machine.allocate_data_frame(true).unwrap());
//!     Suite::new(&system, frames).unwrap()
//! });
//! let outcomes = machine.run_cpus(|_| {
//!     system.start_cpu();
//!     suite.run(|va| machine.supervisor_read(va).unwrap())
//! });
//! assert!(outcomes.unwrap().iter().all(Result::is_ok));
//! # machine.run_cpu(CpuId::new(0).unwrap(), || { suite.finish(); });
//! ```

mod across;
mod locks;
mod meeting;
mod memory;
mod rule;
mod suite;
mod threads;
mod translation;

pub use rule::{Broken, Rule, RuleSet};
pub use suite::{Outcome, SetupError, Suite};
