//! From a trace to work for simulated CPUs: who does what, and who must wait for whom.
//!
//! The plan keeps exactly this order (INV-PLAN):
//! 1. events of one CPU run in file order;
//! 2. two events of one address space whose ranges overlap run in file order, on whatever CPUs they are;
//! 3. fork, exec, exit and remap run after all earlier and before all later events of their space; the
//!    first event of a new space runs after the fork or exec that made it.
//!
//! Everything else is free to run in parallel, and does. A step names, for each other CPU, how far that
//! CPU's queue must be done. Every wait points back in file order and every queue is in file order, so
//! the event that comes first in the file among all unfinished ones never waits: no deadlock.

mod order;
mod peak;

use crate::trace::{Event, Op, SwitchRecord, Trace};

pub use order::Point;
use order::SpaceOrder;
pub use peak::{Peak, fitting, peak};

/// How events find their CPU.
#[derive(Clone, Copy, Debug)]
pub enum Placement<'a> {
    /// The CPU recorded; address spaces are made current where the side file says so.
    Recorded(&'a [SwitchRecord]),
    /// The thread number modulo the number of CPUs.
    ByThread,
}

/// What a CPU does in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The event with this index in the trace.
    Event(u32),
    /// Make a space current; 0 leaves user space.
    Activate(u32),
}

#[derive(Clone, Copy, Debug)]
struct Step {
    action: Action,
    /// End of its waits in the queue's list; they start where the previous step's end.
    waits_end: u32,
}

/// One CPU's work.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    steps: Vec<Step>,
    waits: Vec<Point>,
}

impl Queue {
    /// Number of steps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The steps: what to do, and which steps of other CPUs must be done before. A wait that an earlier
    /// step of this queue implies is left out.
    pub fn steps(&self) -> impl Iterator<Item = (Action, &[Point])> {
        let mut start = 0;
        self.steps.iter().map(move |step| {
            let end = step.waits_end as usize;
            let waits = &self.waits[start..end];
            start = end;
            (step.action, waits)
        })
    }
}

/// Work for every CPU.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One queue per CPU.
    pub queues: Vec<Queue>,
}

/// Plans `trace` for `cpus` CPUs (at least one).
#[must_use]
pub fn plan(trace: &Trace, cpus: usize, placement: Placement<'_>) -> Plan {
    let mut planner = Planner::new(cpus.max(1));
    let switches = match placement {
        Placement::Recorded(switches) => switches,
        Placement::ByThread => &[],
    };
    let mut switches = switches.iter().peekable();
    for (index, event) in trace.events.iter().enumerate() {
        while let Some(switch) = switches.next_if(|s| s.time <= event.time) {
            planner.activate(usize::from(switch.cpu), switch.space);
        }
        let cpu = match placement {
            Placement::Recorded(_) => usize::from(event.cpu),
            Placement::ByThread => event.tid as usize,
        };
        planner.event(cpu % planner.queues.len(), index as u32, event);
    }
    Plan { queues: planner.queues }
}

struct Planner {
    queues: Vec<Queue>,
    spaces: crate::hash::Map<u32, SpaceOrder>,
    /// For each CPU, how many steps of each other CPU it is known to have waited for.
    known: Vec<Vec<u32>>,
}

impl Planner {
    fn new(cpus: usize) -> Self {
        Self {
            queues: vec![Queue::default(); cpus],
            spaces: crate::hash::Map::default(),
            known: vec![vec![0; cpus]; cpus],
        }
    }

    fn activate(&mut self, cpu: usize, space: u32) {
        let cpu = cpu % self.queues.len();
        let made = self.spaces.get(&space).and_then(SpaceOrder::made_at);
        self.push(cpu, Action::Activate(space), made.into_iter().collect());
    }

    fn event(&mut self, cpu: usize, index: u32, event: &Event) {
        let me = Point { cpu: cpu as u16, position: self.queues[cpu].len() as u32 };
        let mut after = Vec::new();
        let space = self.spaces.entry(event.space).or_default();
        match &event.op {
            Op::Map(args) => space.overlap(args.range, me, &mut after),
            Op::Unmap(range) | Op::Protect(range, _) | Op::Advise(range, _) => {
                space.overlap(*range, me, &mut after);
            }
            Op::Fault(va, _) => space.overlap(pmap::VirtRange::page_of(*va), me, &mut after),
            Op::Remap(..) | Op::Exit => space.barrier(me, &mut after),
            Op::Fork(new) | Op::Exec(new) => {
                // Space 0 stands for everything outside: leaving it is no event in its life.
                if event.space != 0 {
                    space.barrier(me, &mut after);
                }
                self.spaces.entry(*new).or_default().barrier(me, &mut after);
            }
        }
        self.push(cpu, Action::Event(index), after);
    }

    fn push(&mut self, cpu: usize, action: Action, mut after: Vec<Point>) {
        // The latest per CPU implies the others.
        after.sort_unstable_by_key(|p| (p.cpu, std::cmp::Reverse(p.position)));
        after.dedup_by_key(|p| p.cpu);
        let queue = &mut self.queues[cpu];
        for point in after {
            let known = &mut self.known[cpu][usize::from(point.cpu)];
            if usize::from(point.cpu) != cpu && point.position >= *known {
                *known = point.position + 1;
                queue.waits.push(point);
            }
        }
        queue.steps.push(Step { action, waits_end: queue.waits.len() as u32 });
    }
}

#[cfg(test)]
mod tests {
    use pmap::{Protection, VirtAddr, VirtRange};
    use proptest::prelude::*;

    use super::*;
    use crate::trace::{Advice, FaultCode, Header, MapArgs, Totals};

    fn trace_of(ops: &[(u32, u32, u16, Op)]) -> Trace {
        let events = ops
            .iter()
            .enumerate()
            .map(|(i, (space, tid, cpu, op))| Event {
                time: i as u32,
                tid: *tid,
                space: *space,
                cpu: *cpu,
                op: op.clone(),
            })
            .collect();
        Trace { name: "t".into(), header: Header::default(), events, totals: Totals::default() }
    }

    fn range(start: u64, pages: u64) -> VirtRange {
        VirtRange::new(VirtAddr(start << 12), VirtAddr((start + pages) << 12)).unwrap()
    }

    fn op() -> impl Strategy<Value = Op> {
        let place = (0..20u64, 1..8u64).prop_map(|(a, n)| range(a, n));
        prop_oneof![
            3 => place.clone().prop_map(|range| Op::Map(MapArgs {
                range, protection: Protection::READ, shared: false, object: 0, first_page: 0 })),
            3 => place.clone().prop_map(Op::Unmap),
            2 => place.clone().prop_map(|r| Op::Protect(r, Protection::READ)),
            1 => place.clone().prop_map(|r| Op::Advise(r, Advice::DontNeed)),
            9 => (0..20u64).prop_map(|p| Op::Fault(VirtAddr((p << 12) + 8), FaultCode(6))),
            1 => (place.clone(), place).prop_map(|(a, b)| Op::Remap(a, b)),
            1 => (1..4u32).prop_map(Op::Fork),
            1 => (1..4u32).prop_map(Op::Exec),
            1 => Just(Op::Exit),
        ]
    }

    fn touched(op: &Op) -> Option<VirtRange> {
        match op {
            Op::Map(a) => Some(a.range),
            Op::Unmap(r) | Op::Protect(r, _) | Op::Advise(r, _) => Some(*r),
            Op::Fault(va, _) => Some(VirtRange::page_of(*va)),
            _ => None,
        }
    }

    /// Whether the plan must keep `a` before `b`, straight from INV-PLAN.
    fn ordered(a: &Event, b: &Event) -> bool {
        let spaces = |e: &Event| match e.op {
            Op::Fork(n) | Op::Exec(n) => vec![e.space, n],
            _ => vec![e.space],
        };
        let shared = spaces(a).into_iter().any(|s| s != 0 && spaces(b).contains(&s));
        match (touched(&a.op), touched(&b.op)) {
            _ if !shared => false,
            (Some(x), Some(y)) => x.start() < y.end() && y.start() < x.end(),
            _ => true,
        }
    }

    /// Runs the plan in an arbitrary permitted order; returns the events in the order in which they ran.
    fn run(plan: &Plan, mut choice: u64) -> Vec<usize> {
        let steps: Vec<Vec<_>> = plan.queues.iter().map(|q| q.steps().collect()).collect();
        let mut at = vec![0usize; steps.len()];
        let mut ran = Vec::new();
        loop {
            let ready: Vec<usize> = (0..steps.len())
                .filter(|&c| {
                    steps[c].get(at[c]).is_some_and(|(_, waits)| {
                        waits.iter().all(|p| at[usize::from(p.cpu)] > p.position as usize)
                    })
                })
                .collect();
            if ready.is_empty() {
                assert!(at.iter().zip(&steps).all(|(a, s)| *a == s.len()), "deadlock");
                return ran;
            }
            choice = crate::hash::mix(choice);
            let cpu = ready[(choice % ready.len() as u64) as usize];
            if let Action::Event(index) = steps[cpu][at[cpu]].0 {
                ran.push(index as usize);
            }
            at[cpu] += 1;
        }
    }

    proptest! {
        #[test]
        fn overlapping_events_and_barriers_keep_their_order(
            ops in prop::collection::vec((0..4u32, 0..9u32, 0..3u16, op()), 1..70),
            cpus in 1..5usize, recorded in any::<bool>(), choice in any::<u64>(),
        ) {
            let trace = trace_of(&ops);
            let switches = [SwitchRecord { time: 3, cpu: 1, space: 1 }, SwitchRecord { time: 9, cpu: 0, space: 0 }];
            let placement = if recorded { Placement::Recorded(&switches) } else { Placement::ByThread };
            let ran = run(&plan(&trace, cpus, placement), choice);
            prop_assert_eq!(ran.len(), trace.events.len());
            let mut when = vec![0; ran.len()];
            for (time, &index) in ran.iter().enumerate() {
                when[index] = time;
            }
            for (j, b) in trace.events.iter().enumerate() {
                for (i, a) in trace.events[..j].iter().enumerate() {
                    prop_assert!(when[i] < when[j] || !ordered(a, b), "{a:?} must come before {b:?}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_overlap_does_not_wait() {
        let fault = |page: u64| Op::Fault(VirtAddr(page << 12), FaultCode(6));
        let trace =
            trace_of(&[(1, 0, 0, fault(1)), (1, 1, 1, fault(2)), (1, 1, 1, fault(1)), (2, 0, 0, fault(2))]);
        let plan = plan(&trace, 2, Placement::ByThread);
        let waits: Vec<usize> = plan.queues.iter().flat_map(|q| q.steps().map(|(_, w)| w.len())).collect();
        // Queue 0 has events 0 and 3, queue 1 has 1 and 2; only 2 waits, for 0.
        assert_eq!(waits, [0, 0, 0, 1]);
    }

    #[test]
    fn an_activation_waits_for_the_space_to_exist() {
        let trace = trace_of(&[(0, 0, 0, Op::Exec(5)), (5, 0, 0, Op::Exit)]);
        let switches = [SwitchRecord { time: 1, cpu: 1, space: 5 }];
        let plan = plan(&trace, 2, Placement::Recorded(&switches));
        let steps: Vec<_> = plan.queues[1].steps().collect();
        assert_eq!(steps, [(Action::Activate(5), &[Point { cpu: 0, position: 0 }][..])]);
    }
}
