//! The command line: `key=value`, separated by spaces.

use core::fmt;
use core::str::FromStr;

use gencount::Implementation;
use pmap::TlbMethod;
use pmap::mutation::Mutation;

/// What the command line says, with defaults for what it does not say.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    /// What to run.
    pub(crate) program: &'static str,
    /// How long to run, for programs that run for a time.
    pub(crate) seconds: u64,
    /// Seed of everything random.
    pub(crate) seed: u64,
    /// The implementation of delayed invalidation; without it CPUID decides.
    pub(crate) di: Option<Implementation>,
    /// How cached translations are managed; without it CPUID decides.
    pub(crate) tlb: Option<TlbMethod>,
    /// What is switched off, in builds that can.
    pub(crate) mutation: Option<Mutation>,
    /// Whether threads lend their priority to those they wait for.
    pub(crate) lending: bool,
    /// Whether CPUs keep an address space loaded while they run kernel threads.
    pub(crate) keep: bool,
    /// Whether an operation of the pmap flushes once.
    pub(crate) batching: bool,
    /// Whether CPUs that do not run an address space are spared its interrupts.
    pub(crate) lazy: bool,
    /// How many frames the pages of programs share; without it most of memory.
    pub(crate) frames: Option<usize>,
}

/// Why a command line was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadArgument {
    /// A word without `=`.
    NotAPair(&'static str),
    /// A key that no program knows.
    UnknownKey(&'static str),
    /// A value that its key does not take.
    BadValue {
        /// The key.
        key: &'static str,
        /// Its value.
        value: &'static str,
    },
}

impl fmt::Display for BadArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPair(word) => write!(f, "`{word}` is not of the form key=value"),
            Self::UnknownKey(key) => write!(f, "there is no argument `{key}`"),
            Self::BadValue { key, value } => write!(f, "`{key}` does not take the value `{value}`"),
        }
    }
}

impl Arguments {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// The first word that is not understood.
    pub(crate) fn parse(command_line: &'static str) -> Result<Self, BadArgument> {
        let mut arguments = Self {
            program: "selftest",
            seconds: 10,
            seed: 1,
            di: None,
            tlb: None,
            mutation: None,
            lending: true,
            keep: true,
            batching: true,
            lazy: true,
            frames: None,
        };
        for word in command_line.split_ascii_whitespace() {
            let (key, value) = word.split_once('=').ok_or(BadArgument::NotAPair(word))?;
            match key {
                "frames" => arguments.frames = Some(parse(key, value)?),
                "program" => arguments.program = value,
                "seconds" => arguments.seconds = parse(key, value)?,
                "seed" => arguments.seed = parse(key, value)?,
                "di" => arguments.di = parse_choice(key, value)?,
                "tlb" => arguments.tlb = parse_choice(key, value)?,
                "mutation" if pmap::mutation::available() => {
                    arguments.mutation = parse(key, value).map(Some)?
                }
                "lending" => arguments.lending = parse_switch(key, value)?,
                "keep" => arguments.keep = parse_switch(key, value)?,
                "batching" => arguments.batching = parse_switch(key, value)?,
                "lazy" => arguments.lazy = parse_switch(key, value)?,
                _ => return Err(BadArgument::UnknownKey(key)),
            }
        }
        Ok(arguments)
    }
}

fn parse<T: FromStr>(key: &'static str, value: &'static str) -> Result<T, BadArgument> {
    value.parse().map_err(|_| BadArgument::BadValue { key, value })
}

/// A choice that may be left to the machine.
fn parse_choice<T: FromStr>(key: &'static str, value: &'static str) -> Result<Option<T>, BadArgument> {
    if value == "auto" { Ok(None) } else { parse(key, value).map(Some) }
}

fn parse_switch(key: &'static str, value: &'static str) -> Result<bool, BadArgument> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(BadArgument::BadValue { key, value }),
    }
}
