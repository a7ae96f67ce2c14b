//! Each safety mechanism can be switched off, and something notices: the model, the audit, or the search of all TLBs. One
//! table says what.

#[path = "support/scenes.rs"]
mod scenes;
mod support;
#[path = "support/unmap_race.rs"]
mod unmap_race;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use gencount::Implementation;
use pmap::mutation::Mutation;
use support::replay::each;
use unmap_race::Rival;
use world::{Op, Setting};

/// Plays something with the mutation in force, from a seed. Returns or panics with what went wrong.
type Scene = fn(u64, Option<Mutation>) -> Result<(), String>;

/// Random programs against the model.
fn model(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    world::run(&Op::by_chance(seed, 150), Setting { mutation, ..Setting::from_number(seed * 0x1_0001) });
    Ok(())
}

/// Four CPUs at once, with a page daemon that reuses what it takes away.
fn unmap_race(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    let di = Implementation::ALL[(seed % 3) as usize];
    let report = unmap_race::play(seed, di, 200, Rival::Unmaps, |system| system.set_mutation(mutation));
    if report.is_clean() { Ok(()) } else { Err(format!("{:?}", report.first_failures)) }
}

/// Who notices that a mechanism is off.
enum Noticed {
    /// One of the scenes above, with one of the first seeds.
    Here(Scene),
    /// A test of another program, which plays a scene of its own with the mutation in force.
    By { source: &'static str, test: &'static str },
}
use Noticed::{By, Here};

const REVERSAL: &str = include_str!("reversal.rs");
const RECLAIM: &str = include_str!("reclaim.rs");
const COHERENCE: &str = include_str!("coherence.rs");
const SAVED: &str = include_str!("../src/table/saved/tests/lifetime.rs");
const LOOM: &str = include_str!("loom.rs");
const DELAYED_INVALIDATION: &str = include_str!("delayed_invalidation.rs");

const NOTICED: &[(Mutation, Noticed)] = &[
    (Mutation::NoDiWait, Here(unmap_race)),
    (Mutation::NoWaitIfEmpty, Here(unmap_race)),
    (Mutation::NoWaitIfReadOnly, Here(unmap_race)),
    (Mutation::NoMark, Here(unmap_race)),
    (Mutation::ForgetShootdown, Here(unmap_race)),
    (Mutation::NoFlush, Here(model)),
    (Mutation::FlushAfterUnlock, Here(scenes::protect_and_remove_write)),
    (Mutation::NoBreak, Here(scenes::readers_of_a_replaced_page)),
    (Mutation::NoFlushOfLostRights, Here(model)),
    (Mutation::NoFlushOfClean, Here(model)),
    (Mutation::NoFlushOfUnaccessed, Here(model)),
    (Mutation::NoFlushOfKernel, Here(model)),
    (Mutation::FreeBeforeFlush, Here(model)),
    (Mutation::LoseSaved, By { source: SAVED, test: "a_directory_that_leaves_saved_tables_behind_is_found" }),
    (Mutation::RecycleAsIs, By { source: SAVED, test: "a_saved_table_is_cleared_for_another_use" }),
    (Mutation::NoFlushOfTables, Here(model)),
    (Mutation::PlainUnwire, Here(scenes::store_during_unwire)),
    (Mutation::PlainProtect, Here(scenes::store_during_a_flush_free_protect)),
    (Mutation::ForgetDirty, Here(model)),
    (Mutation::ForgetReferenced, Here(model)),
    (Mutation::NoWriteableMark, Here(scenes::store_and_ask)),
    (Mutation::TrustInvalid, Here(model)),
    (Mutation::CopyAsIs, Here(model)),
    (Mutation::HoldAnyway, Here(model)),
    (Mutation::UseRetired, Here(scenes::retired_frames)),
    (Mutation::NoExecuteAnyway, Here(model)),
    (Mutation::NoSecondLookAtRetired, Here(scenes::retire_during_enter)),
    (Mutation::TrustWriteableMark, Here(scenes::clean_during_remove_write)),
    (Mutation::RemoveWiredPages, Here(model)),
    (Mutation::RemovePagesAnywhere, Here(model)),
    (
        Mutation::StaleReversal,
        By { source: REVERSAL, test: "a_generation_that_is_not_compared_is_noticed_with_every_seed" },
    ),
    (
        Mutation::ReclaimUnmarked,
        By { source: DELAYED_INVALIDATION, test: "reclaiming_without_a_section_is_found_with_every_seed" },
    ),
    (Mutation::ReclaimWired, By { source: RECLAIM, test: "taking_wired_mappings_is_noticed" }),
    (Mutation::ReclaimOwnReserve, By { source: RECLAIM, test: "reclaiming_the_own_reservation_is_noticed" }),
    (Mutation::NoRecount, By { source: RECLAIM, test: "a_reservation_that_does_not_count_again_is_noticed" }),
    (Mutation::NoDelayedMark, Here(scenes::delayed_protect_and_remove_write)),
    (Mutation::IgnoreDelayed, Here(scenes::delayed_protect_and_protect)),
    (Mutation::NoRevocation, By { source: COHERENCE, test: "a_tag_that_is_not_revoked_is_found" }),
    (Mutation::ReusedPcid, By { source: COHERENCE, test: "a_pcid_that_is_reused_without_a_flush_is_found" }),
    (Mutation::GenerationZero, By { source: COHERENCE, test: "a_generation_that_wraps_to_zero_is_found" }),
    (
        Mutation::TagBeforeActive,
        By { source: COHERENCE, test: "a_tag_read_before_the_active_set_is_joined_is_found" },
    ),
    (Mutation::LateJoin, By { source: COHERENCE, test: "a_cpu_that_joins_after_the_load_is_found" }),
    (Mutation::EarlyLeave, By { source: COHERENCE, test: "a_cpu_that_leaves_before_the_load_is_found" }),
    (Mutation::NoActivationFence, By { source: LOOM, test: "without_the_fences_they_do" }),
    (
        Mutation::InterruptsInSwitch,
        By { source: COHERENCE, test: "an_interrupt_in_the_middle_of_a_switch_is_found" },
    ),
    (
        Mutation::Unpinned,
        By { source: COHERENCE, test: "an_invalidation_that_could_move_to_another_cpu_is_found" },
    ),
    (Mutation::TrustInvlpg, By { source: COHERENCE, test: "an_invlpg_that_misses_globals_is_found" }),
    (
        Mutation::DeafWaiter,
        By { source: COHERENCE, test: "who_waits_with_interrupts_disabled_serves_requests" },
    ),
    (
        Mutation::AcknowledgeFirst,
        By { source: COHERENCE, test: "an_acknowledgement_before_the_invalidation_is_found" },
    ),
    (
        Mutation::EarlyWithTables,
        By { source: COHERENCE, test: "an_early_acknowledgement_before_tables_are_freed_is_found" },
    ),
    (
        Mutation::NoFlushOnStart,
        By { source: COHERENCE, test: "a_cpu_that_comes_back_into_service_uses_nothing_old" },
    ),
    (Mutation::NoTlbsync, By { source: COHERENCE, test: "a_missing_tlbsync_is_found" }),
];

/// What went wrong, if anything, with this seed.
fn complaint(scene: Scene, seed: u64, mutation: Option<Mutation>) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| scene(seed, mutation))) {
        Ok(result) => result.err(),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(ToString::to_string);
            Some(text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default())
        }
    }
}

/// Seeds tried before a mutation counts as unnoticed.
const SEEDS: u64 = 100;

#[test]
fn every_mechanism_that_is_off_is_missed() {
    let mut unnoticed = Vec::new();
    for mutation in Mutation::ALL {
        let rows: Vec<_> = NOTICED.iter().filter(|(m, _)| m == mutation).collect();
        assert_eq!(rows.len(), 1, "{mutation} has no row, or several");
        let scene = match &rows[0].1 {
            Here(scene) => scene,
            By { source, test } => {
                let is_there = source.contains(&format!("fn {test}()"));
                assert!(
                    is_there && source.contains(&format!("Mutation::{mutation:?}")),
                    "{mutation}: {test}"
                );
                continue;
            }
        };
        let noticed = (0..SEEDS).find_map(|seed| Some((seed, complaint(*scene, seed, Some(*mutation))?)));
        match noticed {
            Some((seed, words)) => {
                println!("{mutation}: seed {seed}: {}", words.chars().take(160).collect::<String>())
            }
            None => unnoticed.push(mutation.name()),
        }
    }
    assert!(unnoticed.is_empty(), "nobody noticed: {unnoticed:?}");
}

#[test]
fn nothing_is_missed_when_every_mechanism_is_on() {
    let scenes: [Scene; _] = [
        model,
        unmap_race,
        scenes::protect_and_remove_write,
        scenes::delayed_protect_and_remove_write,
        scenes::delayed_protect_and_protect,
        scenes::store_during_unwire,
        scenes::retired_frames,
        scenes::retire_during_enter,
        scenes::clean_during_remove_write,
        scenes::store_during_a_flush_free_protect,
        scenes::readers_of_a_replaced_page,
        scenes::store_and_ask,
    ];
    let settings = |(number, seed): (usize, u64)| {
        vec![("PMAP_SCENE", number.to_string()), ("PMAP_SEED", seed.to_string())]
    };
    let runs = (0..scenes.len()).flat_map(|number| (0..4).map(move |seed| (number, seed)));
    each(runs.map(|run| (settings(run), run)), |(number, seed)| {
        assert_eq!(complaint(scenes[number], seed, None), None, "scene {number}, seed {seed}");
    });
}
