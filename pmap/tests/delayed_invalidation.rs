//! Delayed invalidation at work, and what happens without it.

mod support;
#[path = "support/unmap_race.rs"]
mod unmap_race;

use gencount::Implementation;
use pmap::mutation::Mutation;
use pmap::sim::Report;
use support::replay::each;
use unmap_race::{Rival, play, races};

/// Plays the scene with some seeds and each implementation, and hands each report to `judge`.
fn with_every_seed(rounds: u64, rival: Rival, mutation: Option<Mutation>, judge: impl Fn(&Report, &str)) {
    each(races(0..12), |(seed, di)| {
        let report = play(seed, di, rounds, rival, |system| system.set_mutation(mutation));
        judge(&report, &format!("{di}, seed {seed}: {:?}", report.first_failures));
    });
}

#[test]
fn pages_taken_away_during_an_unmap_are_reached_by_nobody() {
    with_every_seed(40, Rival::Unmaps, None, |report, what| {
        assert!(report.is_clean(), "{what}");
        assert!(report.stale_before_guarantee > 0, "{what}: the machine was too tame to show anything");
    });
}

#[test]
fn without_the_wait_every_seed_finds_a_reused_page_in_a_tlb() {
    with_every_seed(600, Rival::Unmaps, Some(Mutation::NoDiWait), |report, what| {
        assert!(!report.is_clean(), "{what}: the harness cannot see what delayed invalidation prevents");
    });
}

#[test]
fn a_forgotten_shootdown_is_found_with_every_seed() {
    with_every_seed(600, Rival::Unmaps, Some(Mutation::ForgetShootdown), |report, what| {
        assert!(!report.is_clean(), "{what}: the harness cannot see a forgotten shootdown");
    });
}

#[test]
fn pages_whose_mappings_are_reclaimed_are_reached_by_nobody() {
    with_every_seed(40, Rival::Reclaims, None, |report, what| {
        assert!(report.is_clean(), "{what}");
        assert!(report.stale_before_guarantee > 0, "{what}: the machine was too tame to show anything");
    });
}

#[test]
fn reclaiming_without_a_section_is_found_with_every_seed() {
    with_every_seed(3000, Rival::Reclaims, Some(Mutation::ReclaimUnmarked), |report, what| {
        assert!(!report.is_clean(), "{what}: the harness cannot see an unmarked page");
    });
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| play(seed, Implementation::Lockfree, 40, Rival::Unmaps, |_| {}).history;
    assert_eq!(history(3), history(3));
    assert_ne!(history(3), history(4));
}
