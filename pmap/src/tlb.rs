//! With which instructions a system manages cached translations: decided once, when it is set up.
//!
//! [`System::with_options`](crate::System::with_options) asks the machine for its features, takes the best method that they permit,
//! or the one that [`Options::tlb`](crate::Options::tlb) names, and keeps the decision with the machine's
//! [`Shootdowns`](crate::shootdown::Shootdowns), so that the interrupt handler acts by the same table. It never changes while the
//! system lives; [`System::tlb_choice`](crate::System::tlb_choice) shows it.

use core::fmt;

use crate::addr::PAGE_SIZE;
use crate::error::SystemError;
use crate::machine::Machine;
use crate::ranges::RangeList;
use crate::translation::{Cr3, Invlpgb, Invpcid, Stride, TlbFeatures};

/// A way to manage cached translations. Each needs what those before it need, and something more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlbMethod {
    /// One address space at a time: every load of CR3 empties the TLB.
    NoPcid,
    /// Address spaces keep their translations across switches. An address space is emptied by a load of CR3, everything by CR4.PGE.
    Pcid,
    /// As before, with INVPCID in place of both.
    Invpcid,
    /// As before, and kernel translations are invalidated by INVLPGB, without interrupts.
    Invlpgb,
}

impl TlbMethod {
    /// All of them, the simplest first.
    pub const ALL: [Self; 4] = [Self::NoPcid, Self::Pcid, Self::Invpcid, Self::Invlpgb];

    /// The name used on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoPcid => "no-pcid",
            Self::Pcid => "pcid",
            Self::Invpcid => "invpcid",
            Self::Invlpgb => "invlpgb",
        }
    }

    /// Whether processors with these features can do it.
    #[must_use]
    pub const fn is_possible(self, features: TlbFeatures) -> bool {
        let (pcid, invpcid) = (features.pcids >= 2, features.invpcid);
        match self {
            Self::NoPcid => true,
            Self::Pcid => pcid,
            Self::Invpcid => pcid && invpcid,
            Self::Invlpgb => pcid && invpcid && features.invlpgb.is_some(),
        }
    }

    /// Whether address spaces have PCIDs.
    pub(crate) fn has_pcids(self) -> bool {
        self != Self::NoPcid
    }

    /// The method with this code.
    pub(crate) fn from_code(code: u8) -> Self {
        Self::ALL[usize::from(code).min(Self::ALL.len() - 1)]
    }

    /// A number for it.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for TlbMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No method has that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownTlbMethod;

impl fmt::Display for UnknownTlbMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such method; there are")?;
        TlbMethod::ALL.iter().try_for_each(|method| write!(f, " {method}"))
    }
}

impl core::error::Error for UnknownTlbMethod {}

impl core::str::FromStr for TlbMethod {
    type Err = UnknownTlbMethod;

    fn from_str(name: &str) -> Result<Self, UnknownTlbMethod> {
        Self::ALL.into_iter().find(|method| method.name() == name).ok_or(UnknownTlbMethod)
    }
}

/// The decision, with what led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TlbChoice {
    /// The method chosen.
    pub method: TlbMethod,
    /// What the processors have.
    pub features: TlbFeatures,
    /// Chosen by the embedder's options (perhaps as it would have been anyway).
    pub overridden: bool,
}

impl TlbChoice {
    /// What the features speak for.
    #[must_use]
    pub fn best(features: TlbFeatures) -> TlbMethod {
        let possible = TlbMethod::ALL.into_iter().rev().find(|method| method.is_possible(features));
        possible.unwrap_or(TlbMethod::NoPcid)
    }

    pub(crate) fn decide(features: TlbFeatures, wanted: Option<TlbMethod>) -> Result<Self, SystemError> {
        let method = wanted.unwrap_or_else(|| Self::best(features));
        if !method.is_possible(features) {
            return Err(SystemError::TlbMethod(method));
        }
        Ok(Self { method, features, overridden: wanted.is_some() })
    }
}

impl fmt::Display for TlbChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let best = Self::best(self.features);
        if self.overridden {
            write!(f, "{} (chosen by the program; the processors speak for {best})", self.method)
        } else {
            write!(f, "{} (the best that the processors have)", self.method)
        }
    }
}

/// What is done on the current CPU: one line of the dispatch table.
pub(crate) struct Instructions<M> {
    /// Drops the non-global translations of the address space that is loaded, which is the argument.
    pub(crate) address_space: fn(&M, Cr3),
    /// Drops everything.
    pub(crate) everything: fn(&M),
}

impl<M: Machine> Instructions<M> {
    const WITHOUT_INVPCID: Self =
        Self { address_space: reload::<M>, everything: |machine| machine.invalidate_everything() };
    const WITH_INVPCID: Self = Self {
        address_space: |machine, cr3| machine.invpcid(Invpcid::Context { pcid: cr3.pcid }),
        everything: |machine| machine.invpcid(Invpcid::AllWithGlobals),
    };

    /// Those of `method`.
    pub(crate) fn of(method: TlbMethod) -> Self {
        match method {
            TlbMethod::NoPcid | TlbMethod::Pcid => Self::WITHOUT_INVPCID,
            TlbMethod::Invpcid | TlbMethod::Invlpgb => Self::WITH_INVPCID,
        }
    }
}

fn reload<M: Machine>(machine: &M, cr3: Cr3) {
    // SAFETY: the root that is loaded already.
    unsafe { machine.load_cr3(Cr3 { no_flush: false, ..cr3 }) }
}

/// Invalidates kernel translations, which are global, on all CPUs; all of them without a list. Waits until it is done. `most` is the
/// limit of one instruction. To be called on one CPU throughout: TLBSYNC waits for what was sent from the same CPU (H-80).
pub(crate) fn broadcast<M: Machine>(machine: &M, list: Option<RangeList>, most: u16, wait: bool) {
    let all = Invlpgb { va: None, more: 0, stride: Stride::Page, pcid: None, globals: true };
    match list {
        None => machine.invlpgb(all),
        Some(list) => {
            for range in list.iter() {
                let (mut va, mut left) = (range.start(), range.pages());
                while left > 0 {
                    // Pages of 4 KiB one by one: a stride of 2 MiB would leave those between the steps.
                    let count = left.min(u64::from(most) + 1);
                    machine.invlpgb(Invlpgb { va: Some(va), more: (count - 1) as u16, ..all });
                    va = va.wrapping_add(count * PAGE_SIZE);
                    left -= count;
                }
            }
        }
    }
    if wait {
        machine.tlbsync();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_best_method_that_is_possible_is_chosen_unless_another_is_wanted() {
        let pcids = TlbFeatures { pcids: 16, ..TlbFeatures::NONE };
        let invpcid = TlbFeatures { invpcid: true, ..pcids };
        let invlpgb = TlbFeatures { invlpgb: Some(0), ..invpcid };
        let lonely = TlbFeatures { invpcid: true, ..TlbFeatures::NONE };
        let all = [TlbFeatures::NONE, pcids, invpcid, invlpgb];
        assert!(all.map(TlbChoice::best).iter().eq(&TlbMethod::ALL));
        assert_eq!(TlbChoice::best(lonely), TlbMethod::NoPcid);
        for (features, best) in all.into_iter().zip(TlbMethod::ALL) {
            for method in TlbMethod::ALL {
                let choice = TlbChoice::decide(features, Some(method));
                assert_eq!(choice.is_ok(), method <= best);
                assert!(choice.is_err() || choice.unwrap().overridden);
            }
            let choice = TlbChoice::decide(features, None).unwrap();
            assert_eq!((choice.method, choice.overridden), (best, false));
        }
        let choice = TlbChoice::decide(invpcid, Some(TlbMethod::Pcid)).unwrap();
        assert_eq!(choice.to_string(), "pcid (chosen by the program; the processors speak for invpcid)");
    }

    #[test]
    fn methods_have_names_and_codes() {
        for method in TlbMethod::ALL {
            assert_eq!(method.name().parse(), Ok(method));
            assert_eq!(TlbMethod::from_code(method.code()), method);
        }
        assert!("x".parse::<TlbMethod>().unwrap_err().to_string().contains("no-pcid"));
    }
}
