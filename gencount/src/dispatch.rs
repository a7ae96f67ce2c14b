//! Which implementation a program uses when it does not say: decided once, like an ifunc.
//!
//! # Protocol
//!
//! [`init`] decides, at its first call; a kernel calls it on the boot CPU, hosted programs leave it to the first use. In
//! this order:
//!
//! 1. an [`override_with`] that came before,
//! 2. with feature `std`, the environment variable [`VARIABLE`] (`locked`, `lockfree` or `sharded`; unset or empty: no
//!    override),
//! 3. what the CPU can do: `lockfree` if CPUID reports CMPXCHG16B, otherwise `locked`.
//!
//! The first decision is frozen by a compare-exchange and never changes, so no two parts of a program can ever get
//! different answers. It says nothing about domains that name their implementation: several kinds can live in one
//! process.
//!
//! ```
//! let choice = gencount::dispatch::init()?;
//! println!("{choice}"); // lockfree (128-bit compare-exchange is lock-free here)
//! assert_eq!(choice, gencount::dispatch::init()?);
//! # Ok::<(), gencount::dispatch::Error>(())
//! ```

use core::fmt;

use crate::implementation::Implementation;
use crate::primitive::{AcqRel, Acquire, AtomicU32};

/// The environment variable that overrides the choice, with feature `std`.
pub const VARIABLE: &str = "GENCOUNT_DI";

/// What CPUID says, on which the choice rests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The CPU has CMPXCHG16B.
    Cmpxchg16b,
    /// The CPU, or the target, has no 16-byte compare-exchange.
    NoCmpxchg16b,
}

impl Reason {
    fn detect() -> Self {
        if dcas_queue::pair::is_lock_free() { Self::Cmpxchg16b } else { Self::NoCmpxchg16b }
    }

    /// The implementation that this speaks for.
    #[must_use]
    pub const fn implementation(self) -> Implementation {
        match self {
            Self::Cmpxchg16b => Implementation::Lockfree,
            Self::NoCmpxchg16b => Implementation::Locked,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cmpxchg16b => "128-bit compare-exchange is lock-free here",
            Self::NoCmpxchg16b => "no lock-free 128-bit compare-exchange here",
        })
    }
}

/// Who overrode the CPU's choice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Override {
    /// The program, through [`override_with`].
    Program,
    /// The environment variable [`VARIABLE`].
    Environment,
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("set by the program"),
            Self::Environment => write!(f, "set by {VARIABLE}"),
        }
    }
}

/// The decision, with what led to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Choice {
    /// The implementation chosen.
    pub implementation: Implementation,
    /// What the CPU can do.
    pub reason: Reason,
    /// Who overrode the CPU's choice, if somebody did (perhaps with the same result).
    pub overridden_by: Option<Override>,
}

impl Choice {
    /// The implementation chosen.
    #[must_use]
    pub const fn implementation(self) -> Implementation {
        self.implementation
    }

    /// The implementation's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.implementation.name()
    }

    /// Bit 0: decided; bit 1: CMPXCHG16B; bits 2 and 3: who overrode; above: the implementation.
    fn encode(self) -> u32 {
        let overridden_by = match self.overridden_by {
            None => 0,
            Some(Override::Program) => 1,
            Some(Override::Environment) => 2,
        };
        let implementation = match self.implementation {
            Implementation::Locked => 0,
            Implementation::Lockfree => 1,
            Implementation::Sharded => 2,
        };
        1 | u32::from(self.reason == Reason::Cmpxchg16b) << 1 | overridden_by << 2 | implementation << 4
    }

    fn decode(code: u32) -> Option<Self> {
        (code & 1 != 0).then_some(Self {
            implementation: match code >> 4 {
                0 => Implementation::Locked,
                1 => Implementation::Lockfree,
                _ => Implementation::Sharded,
            },
            reason: if code & 2 != 0 { Reason::Cmpxchg16b } else { Reason::NoCmpxchg16b },
            overridden_by: match (code >> 2) & 3 {
                0 => None,
                1 => Some(Override::Program),
                _ => Some(Override::Environment),
            },
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.overridden_by {
            None => write!(f, "{} ({})", self.implementation, self.reason),
            Some(who) => write!(
                f,
                "{} ({who}; {}, which speaks for {})",
                self.implementation,
                self.reason,
                self.reason.implementation()
            ),
        }
    }
}

/// Why there is no choice, or not the wanted one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The environment variable [`VARIABLE`] names no implementation. Nothing has been decided.
    BadVariable,
    /// The choice is frozen, and is another one.
    Frozen(Choice),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadVariable => {
                write!(
                    f,
                    "{VARIABLE} names no implementation: set it to locked, lockfree or sharded, or unset it"
                )
            }
            Self::Frozen(choice) => {
                write!(f, "the choice was made before: {choice}; override it before its first use")
            }
        }
    }
}

impl core::error::Error for Error {}

/// The table: where a decision is kept.
struct Table(AtomicU32);

/// The program's table.
static TABLE: Table = Table(AtomicU32::new(0));

impl Table {
    fn get(&self) -> Option<Choice> {
        // ORD: Acquire pairs with the AcqRel of `freeze`; the value is complete in itself.
        Choice::decode(self.0.load(Acquire))
    }

    /// Freezes `choice`, and returns what is frozen: this, or what another thread froze before.
    fn freeze(&self, choice: Choice) -> Choice {
        // ORD: AcqRel pairs with the Acquire in `get`; Acquire on failure for the same reason.
        match self.0.compare_exchange(0, choice.encode(), AcqRel, Acquire) {
            Ok(_) => choice,
            Err(code) => Choice::decode(code).unwrap_or(choice),
        }
    }

    fn init(&self, variable: Result<Option<Implementation>, Error>) -> Result<Choice, Error> {
        if let Some(choice) = self.get() {
            return Ok(choice);
        }
        let reason = Reason::detect();
        let (implementation, overridden_by) = match variable? {
            Some(implementation) => (implementation, Some(Override::Environment)),
            None => (reason.implementation(), None),
        };
        Ok(self.freeze(Choice { implementation, reason, overridden_by }))
    }

    fn override_with(&self, implementation: Implementation) -> Result<Choice, Error> {
        let wanted =
            Choice { implementation, reason: Reason::detect(), overridden_by: Some(Override::Program) };
        let frozen = self.freeze(wanted);
        if frozen.implementation == implementation { Ok(frozen) } else { Err(Error::Frozen(frozen)) }
    }
}

/// Reads the override from a value of the environment variable.
#[cfg(feature = "std")]
fn parse(value: &str) -> Result<Option<Implementation>, Error> {
    match value {
        "" => Ok(None),
        name => name.parse().map(Some).map_err(|_| Error::BadVariable),
    }
}

#[cfg(feature = "std")]
fn variable() -> Result<Option<Implementation>, Error> {
    match std::env::var_os(VARIABLE) {
        None => Ok(None),
        Some(value) => parse(value.to_str().ok_or(Error::BadVariable)?),
    }
}

#[cfg(not(feature = "std"))]
fn variable() -> Result<Option<Implementation>, Error> {
    Ok(None)
}

/// Decides, if nobody has yet, and returns the frozen choice.
///
/// # Errors
///
/// [`Error::BadVariable`], with feature `std`, if nothing is decided yet and the environment variable names no
/// implementation. Nothing is frozen then: correct it, or override it with [`override_with`].
pub fn init() -> Result<Choice, Error> {
    match TABLE.get() {
        Some(choice) => Ok(choice),
        None => TABLE.init(variable()),
    }
}

/// The frozen choice, if there is one.
#[must_use]
pub fn frozen() -> Option<Choice> {
    TABLE.get()
}

/// Freezes `implementation` as the program's choice. Takes precedence over the environment.
///
/// # Errors
///
/// [`Error::Frozen`] if the choice has been made before and is another one.
pub fn override_with(implementation: Implementation) -> Result<Choice, Error> {
    TABLE.override_with(implementation)
}
