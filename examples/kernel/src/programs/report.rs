//! What a program found: text for people, and one line of JSON for machines, the last thing printed.

use core::fmt::{self, Write};
use core::panic::PanicInfo;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use pmap::bare::CpuFeatures;
use serde::Serialize;
use serde_json::Value;

use crate::arch::percpu;
use crate::arch::serial::println;
use crate::{machine, sched};

/// A program's result.
#[derive(Serialize)]
pub(crate) struct Report {
    program: &'static str,
    ok: bool,
    cpus: usize,
    /// The implementation of delayed invalidation.
    di: &'static str,
    /// How cached translations are managed.
    tlb: &'static str,
    /// What the CPUs have, by the names of the manuals.
    features: Vec<&'static str>,
    checks: u64,
    errors: Vec<String>,
    figures: BTreeMap<&'static str, Value>,
}

impl Report {
    /// A report without checks yet.
    pub(crate) fn new(program: &'static str) -> Self {
        Self {
            program,
            ok: true,
            cpus: percpu::cpu_count(),
            di: sched::domain().implementation().name(),
            tlb: machine::system().map_or("none", |system| system.tlb_choice().method.name()),
            features: CpuFeatures::current().features.iter_names().map(|(name, _)| name).collect(),
            checks: 0,
            errors: Vec::new(),
            figures: BTreeMap::new(),
        }
    }

    /// Notes the result of a check; `describe` says what is wrong if it failed.
    pub(crate) fn check(&mut self, name: &str, passed: bool, describe: impl FnOnce() -> String) {
        self.checks += 1;
        if passed {
            println!("  ok    {name}");
        } else {
            self.ok = false;
            let error = format!("{name}: {}", describe());
            println!("  WRONG {error}");
            self.errors.push(error);
        }
    }

    /// Notes a figure.
    pub(crate) fn figure(&mut self, name: &'static str, value: impl Into<Value>) {
        self.figures.insert(name, value.into());
    }

    /// Whether every check passed, and there was one.
    pub(crate) fn is_ok(&self) -> bool {
        self.ok && self.checks > 0
    }

    /// Prints the report.
    pub(crate) fn print(&self) {
        // Tables were shown when they were made.
        for (name, value) in self.figures.iter().filter(|(_, value)| !value.is_array()) {
            println!("  {name}: {value}");
        }
        println!("{}: {} checks, {} errors", self.program, self.checks, self.errors.len());
        let line = serde_json::to_string(self).expect("a report has only keys that are text");
        println!("{line}");
    }
}

/// The line of JSON after a panic. Allocates nothing: the heap may be what is broken.
pub(crate) fn panicked<'a>(info: &'a PanicInfo<'a>) -> impl fmt::Display + 'a {
    fmt::from_fn(move |f| {
        f.write_str("{\"ok\":false,\"panic\":\"")?;
        write!(Escaped(f), "{info}")?;
        f.write_str("\"}")
    })
}

/// The line of JSON after a command line that was refused.
pub(crate) fn refused(error: &str) -> impl fmt::Display + '_ {
    fmt::from_fn(move |f| {
        f.write_str("{\"ok\":false,\"usage\":\"")?;
        write!(Escaped(f), "{error}")?;
        f.write_str("\"}")
    })
}

/// Writes text as the inside of a string of JSON.
struct Escaped<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '"' => self.0.write_str("\\\"")?,
                '\\' => self.0.write_str("\\\\")?,
                '\n' => self.0.write_str("\\n")?,
                other if other.is_control() => write!(self.0, "\\u{:04x}", other as u32)?,
                other => self.0.write_char(other)?,
            }
        }
        Ok(())
    }
}
