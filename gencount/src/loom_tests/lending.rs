//! Lending against finishing: a waiter finds a section open, lends to its thread, and gives up; the finish takes back whatever
//! was lent to it. If it missed that, the loan would outlive the section.

use loom::sync::{Arc, Mutex};
use loom::thread;

use super::fails;
use crate::lending::word::LoanWord;
use crate::sharded::protocol::{Clock, Published};
use crate::waiters::WaiterCount;

/// What is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Nothing,
    /// The waiter's fence, between its registration and its look at the section.
    WaiterFence,
    /// The finish's fence, between closing and its look at the count.
    FinishFence,
    /// The Release with which the waiter leaves the count.
    Withdrawal,
    /// The finish's look at the loan word.
    Word,
}

/// Who makes the fence between closing and the look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The finish, which exchanges.
    Full,
    /// The waiter, for a finish that stores.
    Light,
}

struct Scene {
    form: Form,
    clock: Clock,
    slot: Published,
    word: LoanWord,
    count: WaiterCount,
    /// Stands in for the table: its lock, and whether the slot's hold is registered.
    table: Mutex<bool>,
}

impl Scene {
    fn finish(&self, missing: Missing) {
        match self.form {
            Form::Full => self.slot.close(),
            Form::Light => self.slot.close_lightly(),
        }
        let any = match (missing, self.form) {
            (Missing::FinishFence, _) => self.count.any_unfenced(),
            (_, Form::Full) => self.count.any_after_seqcst(),
            (_, Form::Light) => self.count.any_lightly(),
        };
        if any || (missing != Missing::Word && self.word.is_set()) {
            let mut held = self.table.lock().expect("no panic");
            if core::mem::take(&mut *held) {
                self.word.clear();
            }
        }
    }

    fn lend_and_give_up(&self, missing: Missing) {
        let registered = match (missing, self.form) {
            (Missing::WaiterFence, _) => self.count.register_unfenced(),
            (_, Form::Full) => self.count.register(),
            (_, Form::Light) => self.count.register_heavily(),
        };
        {
            let mut held = self.table.lock().expect("no panic");
            if self.slot.read().is_some() && !*held {
                *held = true;
                self.word.set(1);
            }
        }
        if missing == Missing::Withdrawal {
            registered.withdraw_relaxed();
        }
    }
}

fn lend_against_finish(form: Form, waiters: usize, missing: Missing) {
    let scene = Arc::new(Scene {
        form,
        clock: Clock::new(),
        slot: Published::new(),
        word: LoanWord::new(),
        count: WaiterCount::new(),
        table: Mutex::new(false),
    });
    scene.clock.publish(&scene.slot, scene.clock.first_reading());
    let waiters: std::vec::Vec<_> = (0..waiters)
        .map(|_| {
            let scene = scene.clone();
            thread::spawn(move || scene.lend_and_give_up(missing))
        })
        .collect();
    scene.finish(missing);
    for waiter in waiters {
        waiter.join().expect("no panic");
    }
    assert!(!*scene.table.lock().expect("no panic"), "a loan outlives its section");
}

#[test]
fn no_loan_outlives_its_section() {
    for form in [Form::Full, Form::Light] {
        loom::model(move || lend_against_finish(form, 1, Missing::Nothing));
    }
}

#[test]
fn no_loan_of_two_outlives_its_section() {
    for form in [Form::Full, Form::Light] {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(move || lend_against_finish(form, 2, Missing::Nothing));
    }
}

#[test]
fn without_either_fence_a_loan_outlives_its_section() {
    for form in [Form::Full, Form::Light] {
        assert!(fails(move || lend_against_finish(form, 1, Missing::WaiterFence)));
        assert!(fails(move || lend_against_finish(form, 1, Missing::FinishFence)));
    }
}

#[test]
fn without_the_loan_word_a_loan_outlives_its_section() {
    for form in [Form::Full, Form::Light] {
        assert!(fails(move || lend_against_finish(form, 1, Missing::Word)));
        assert!(fails(move || lend_against_finish(form, 1, Missing::Withdrawal)));
    }
}
