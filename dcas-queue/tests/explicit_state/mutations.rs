//! Errors that the check must find. Each is a rule of the algorithm taken away; a check that
//! passes them proves nothing.
//!
//! Only INV-Q-1 to INV-Q-4 may convict a mutation: the lemmas name the algorithm's own rules, and finding that a rule
//! was broken because it was broken would be no news.

use crate::model::{Mutation, PayloadSteps};
use crate::properties::Violation;
use crate::search::{Configuration, search};

macro_rules! rejected {
    ($($(#[$doc:meta])* $name:ident: $mutation:ident in $configuration:expr => $violation:ident;)+) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            let configuration = $configuration.mutation(Mutation::$mutation);
            match search(&configuration) {
                Ok(clean) => panic!("not noticed: {clean:?}"),
                Err(counterexample) => {
                    assert_eq!(counterexample.violation, Violation::$violation, "{counterexample:?}");
                }
            }
        }
    )+};
}

rejected! {
    /// The walk steps onto a node that was removed and is elsewhere by now.
    no_predecessor_recheck: NoRecheck in Configuration::new(2, 3) => LargestLost;
    /// A link of an earlier stay is paired with a payload of a later one.
    link_read_before_payload: LinkReadBeforePayload in Configuration::new(2, 3) => LargestLost;
    /// For a moment the node looks like the tail that it was, and a late append links to it.
    link_prepared_before_payload: LinkPreparedBeforePayload in Configuration::new(2, 3) => LargestLost;
    /// A donation that comes between reading and marking is lost.
    payload_read_before_mark: PayloadReadBeforeMark in Configuration::new(2, 3) => LargestLost;
    /// The same in the helper. It needs a third thread: one donates, one marks, one helps.
    helper_keeps_earlier_payload: HelperKeepsEarlierPayload in Configuration::new(3, 1) => LargestLost;
    /// A thread stopped between mark and unlink holds the others up.
    no_helping: NoHelping in Configuration::new(2, 3) => NoProgress;
    /// A donation of anything but the removed payload.
    donation_changed: DonationChanged in Configuration::new(2, 3) => LargestLost;
    /// With varying steps, a node whose failed append went too high waits for a payload that cannot come.
    unused_payload_kept: UnusedPayloadKept
        in Configuration::new(2, 2).n(PayloadSteps::UpTo(3)).limit(4) => NoProgress;
    /// With varying steps a stale tail can give a node its old payload again while a late append still trusts that.
    varying_steps_without_the_never_down_rule: NoNeverDownRule
        in Configuration::new(3, 2).n(PayloadSteps::ByRound { before_last: 1, last: 2 }) => LargestLost;
}
