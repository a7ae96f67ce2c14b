//! One contract, one suite, every implementation.
//!
//! `GENCOUNT_STRESS_SECONDS=60` makes each of the tests with many threads run that long; `.ci/stress` does so.
//!
//! A test is a function of the implementation; `suite!` makes one test of it for each. What real threads cannot
//! see: reorderings that this machine does not make. The interleavings are searched by seed in the library's own tests.
#![cfg(feature = "std")]

mod fixed;
mod history;
mod lending;
mod limits;
mod linearizability;
mod misuse;
mod model;
mod record;
mod support;
mod waiting;

use gencount::Implementation;

macro_rules! suite {
    ($($module:ident: $($test:ident),+ $(,)?;)+) => {
        mod locked {
            $($(#[test] fn $test() { crate::$module::$test(crate::Implementation::Locked); })+)+
        }
        mod lockfree {
            $($(#[test] fn $test() { crate::$module::$test(crate::Implementation::Lockfree); })+)+
        }
        mod sharded {
            $($(#[test] fn $test() { crate::$module::$test(crate::Implementation::Sharded); })+)+
        }
        /// Every implementation is in the suite.
        #[test]
        fn suite_is_complete() {
            use Implementation::{Locked, Lockfree, Sharded};
            assert_eq!(Implementation::ALL, [Locked, Lockfree, Sharded]);
        }
    };
}

suite! {
    linearizability:
        histories_are_possible,
        altered_histories_are_impossible;
    history:
        watermark_never_runs_ahead_of_an_open_section,
        no_wake_up_is_lost,
        join_and_leave_while_others_run;
    waiting:
        nothing_to_wait_for,
        out_of_order_finishes_hold_the_watermark,
        a_wait_returns_exactly_when_the_marked_section_finishes,
        an_out_of_order_finish_wakes_the_waiter,
        only_those_whose_generation_is_reached_wake,
        many_waiters_wake_at_once,
        the_raw_pair_works_like_the_guard,
        nested_code_marks_only_inside_a_section,
        counters_of_the_departed_are_kept,
        two_domains_are_independent;
    limits:
        try_wait_never_blocks,
        a_timed_wait_gives_up,
        a_timed_wait_is_woken_by_the_finish,
        giving_up_races_with_finishing,
        a_timed_wait_reports_a_foreign_word;
    fixed:
        a_fixed_implementation_keeps_the_contract;
    lending:
        a_waiter_lends_to_every_section_that_holds_it_up,
        a_time_out_takes_its_lending_back,
        a_cancelled_waiter_looks_again_and_lends_again,
        a_waiter_lends_through_a_lock,
        a_cycle_through_a_lock_is_reported,
        a_timed_wait_on_a_cycle_gives_way,
        waiting_for_the_own_section_is_reported,
        a_thread_that_ended_in_its_section_leaves_its_loan_to_nobody,
        no_loan_is_left_over;
    model:
        agrees_with_the_model;
    misuse:
        sections_do_not_nest,
        finish_needs_a_section,
        wait_inside_a_section_panics_in_debug_builds,
        a_second_thread_is_refused,
        a_guard_dropped_by_another_thread_is_noticed,
        unbinding_hands_a_participant_over,
        unbinding_needs_a_closed_section,
        a_foreign_word_is_reported,
        a_forgotten_section_ends_with_its_participant,
        a_guard_outlived_by_its_section_does_no_harm,
        a_static_slot_serves_one_participant_of_one_domain;
}
