//! The command that a failing run leaves behind makes the same failure again, and nothing else.

mod support;
#[path = "support/unmap_race.rs"]
mod unmap_race;

use std::cell::RefCell;

use gencount::Implementation;
use pmap::mutation::Mutation;
use support::replay::{Failure, each_wanted};
use unmap_race::{Rival, play, races};

/// Plays the race with pages that are not marked, with those settings of many that are wanted. Returns the failure, and which
/// runs were made.
fn broken(wanted: impl Fn(&str) -> Option<String>) -> (Option<Failure>, Vec<(u64, Implementation)>) {
    let made = RefCell::new(Vec::new());
    let failure = each_wanted(wanted, races(0..30), |(seed, di)| {
        made.borrow_mut().push((seed, di));
        let report = play(seed, di, 40, Rival::Unmaps, |system| system.set_mutation(Some(Mutation::NoMark)));
        assert!(report.is_clean(), "history {:x}: {:?}", report.history, report.first_failures);
    });
    (failure.err(), made.into_inner())
}

fn words(failure: &Failure) -> &str {
    failure.payload.downcast_ref::<String>().expect("a message")
}

#[test]
fn the_command_of_a_failure_makes_it_again() {
    let (failure, _) = broken(|_| None);
    let first = failure.expect("some run shows that pages are not marked");
    // As a shell reads it.
    let (settings, rest) = first.command.split_once("cargo ").expect("a command");
    let settings: Vec<(&str, &str)> =
        settings.split_whitespace().map(|setting| setting.split_once('=').expect("a setting")).collect();
    assert_eq!(rest, "test -p amd64-pmap --test replay -- --exact the_command_of_a_failure_makes_it_again");
    let value = |name: &str| settings.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string());
    let (failure, made) = broken(value);
    let again = failure.expect("it fails again");
    assert_eq!((words(&again), &again.command), (words(&first), &first.command));
    assert_eq!(made.len(), 1, "and no other run was made");
}

#[test]
fn settings_that_no_run_has_make_none() {
    let (failure, made) = broken(|name| (name == "PMAP_SEED").then(|| "31".to_string()));
    assert!(failure.is_none() && made.is_empty());
}
