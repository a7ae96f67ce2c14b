//! The dispatch table, seen from a program: each case in a process of its own, for the choice is made once.
#![cfg(feature = "std")]

use std::process::Command;

use gencount::dispatch::{self, Error, Override, Reason};
use gencount::{Domain, Hosted, Implementation};

/// Runs the child test `case` with the variable set to `value`.
fn in_a_process(case: &str, value: Option<&str>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([case, "--exact", "--nocapture"]).env("DISPATCH_CHILD", case);
    match value {
        Some(value) => command.env(dispatch::VARIABLE, value),
        None => command.env_remove(dispatch::VARIABLE),
    };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

/// Whether this process is the child that runs `case`. The test itself only starts it.
fn is_child(case: &str) -> bool {
    std::env::var("DISPATCH_CHILD").is_ok_and(|child| child == case)
}

fn cpus_choice() -> Implementation {
    if dcas_queue::pair::is_lock_free() { Implementation::Lockfree } else { Implementation::Locked }
}

#[test]
fn cpuid_decides() {
    if !is_child("cpuid_decides") {
        in_a_process("cpuid_decides", None);
        return in_a_process("cpuid_decides", Some(""));
    }
    assert_eq!(dispatch::frozen(), None);
    let domain = Domain::global().unwrap();
    assert_eq!(domain.implementation(), cpus_choice());
    let choice = dispatch::frozen().unwrap();
    assert_eq!(choice.overridden_by, None);
    assert_eq!(choice.name(), cpus_choice().name());
    let expected = match choice.reason {
        Reason::Cmpxchg16b => "lockfree (128-bit compare-exchange is lock-free here)",
        _ => "locked (no lock-free 128-bit compare-exchange here)",
    };
    assert_eq!(choice.to_string(), expected);
    assert!(std::sync::Arc::ptr_eq(domain, Domain::global().unwrap()));
}

#[test]
fn the_variable_overrides_cpuid() {
    if !is_child("the_variable_overrides_cpuid") {
        in_a_process("the_variable_overrides_cpuid", Some("lockfree"));
        in_a_process("the_variable_overrides_cpuid", Some("sharded"));
        return in_a_process("the_variable_overrides_cpuid", Some("locked"));
    }
    let wanted: Implementation = std::env::var(dispatch::VARIABLE).unwrap().parse().unwrap();
    let choice = dispatch::init().unwrap();
    assert_eq!(choice.implementation(), wanted);
    assert_eq!(choice.overridden_by, Some(Override::Environment));
    assert!(choice.to_string().starts_with(&format!("{wanted} (set by GENCOUNT_DI; ")));
    assert_eq!(Domain::with_choice(Hosted).unwrap().implementation(), wanted);
    // Too late for another one.
    let other = Implementation::ALL.into_iter().find(|&other| other != wanted).unwrap();
    assert_eq!(dispatch::override_with(other), Err(Error::Frozen(choice)));
    assert_eq!(dispatch::override_with(wanted), Ok(choice));
}

#[test]
fn the_program_overrides_the_variable() {
    if !is_child("the_program_overrides_the_variable") {
        in_a_process("the_program_overrides_the_variable", Some("lockfree"));
        return in_a_process("the_program_overrides_the_variable", Some("nonsense"));
    }
    let choice = dispatch::override_with(Implementation::Locked).unwrap();
    assert_eq!(choice.overridden_by, Some(Override::Program));
    assert_eq!(dispatch::init(), Ok(choice));
    assert_eq!(Domain::global().unwrap().implementation(), Implementation::Locked);
}

#[test]
fn a_bad_variable_is_an_error_and_freezes_nothing() {
    if !is_child("a_bad_variable_is_an_error_and_freezes_nothing") {
        return in_a_process("a_bad_variable_is_an_error_and_freezes_nothing", Some("Lockfree"));
    }
    assert_eq!(dispatch::init(), Err(Error::BadVariable));
    assert_eq!(Domain::global().unwrap_err(), Error::BadVariable);
    assert_eq!(Domain::with_choice(Hosted).unwrap_err(), Error::BadVariable);
    assert_eq!(dispatch::frozen(), None);
    assert!(Error::BadVariable.to_string().contains("locked, lockfree or sharded"));
    dispatch::override_with(Implementation::Lockfree).unwrap();
    assert!(Domain::global().is_ok());
}

#[test]
fn one_decision_among_many_threads() {
    if !is_child("one_decision_among_many_threads") {
        return in_a_process("one_decision_among_many_threads", None);
    }
    let barrier = std::sync::Barrier::new(16);
    let choices: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|number| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    match number % 3 {
                        0 => dispatch::init().unwrap(),
                        1 => dispatch::override_with(Implementation::Locked)
                            .unwrap_or_else(|_| dispatch::frozen().unwrap()),
                        _ => dispatch::override_with(Implementation::Lockfree)
                            .unwrap_or_else(|_| dispatch::frozen().unwrap()),
                    }
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(choices.iter().all(|choice| *choice == choices[0]), "{choices:?}");
}

#[test]
fn names() {
    for implementation in Implementation::ALL {
        assert_eq!(implementation.to_string().parse(), Ok(implementation));
    }
    let error = "LOCKED".parse::<Implementation>().unwrap_err();
    assert!(error.to_string().contains("\"locked\", \"lockfree\" or \"sharded\""));
    assert_eq!(format!("[{:>9}]", Implementation::Locked), "[   locked]");
}

#[test]
fn auto_traits() {
    use static_assertions::{assert_impl_all, assert_not_impl_any};
    assert_impl_all!(Domain<Hosted>: Send, Sync);
    assert_impl_all!(gencount::Participant<Hosted>: Send, Sync);
    assert_not_impl_any!(gencount::Section<'static, Hosted>: Send, Sync);
    assert_impl_all!(gencount::Slot: Send, Sync);
    assert_impl_all!(gencount::GenerationWord: Send, Sync);
    static_assertions::assert_eq_size!(gencount::GenerationWord, u64);
}
