//! The `#` lines at the start of a trace.

use std::collections::BTreeMap;

use super::event::OpKind;
use super::fields::{Fields, shown};

/// What the header says, as far as a replay needs it.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// What was recorded.
    pub workload: String,
    /// CPUs of the recorded machine.
    pub cpus: usize,
    /// Events announced.
    pub totals: Option<Totals>,
    /// Objects by number.
    pub objects: BTreeMap<u32, ObjectInfo>,
}

/// The `totals` line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Events of all kinds.
    pub events: u64,
    /// Events by kind, indexed by [`OpKind`].
    pub by_kind: [u64; OpKind::ALL.len()],
}

impl Totals {
    /// Counts one event.
    pub fn count(&mut self, kind: OpKind) {
        self.events += 1;
        self.by_kind[kind as usize] += 1;
    }

    /// Number of events of one kind.
    #[must_use]
    pub const fn of(&self, kind: OpKind) -> u64 {
        self.by_kind[kind as usize]
    }
}

/// Something that can be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name, as far as it is known.
    pub name: String,
    /// What its pages hold.
    pub kind: ObjectKind,
}

/// What the pages of an object hold, and where they go when memory is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A file: pages have contents from the start and are written back to it.
    File,
    /// Shared anonymous memory: zero from the start, kept in swap.
    Anonymous,
    /// Pages that the kernel supplies, such as `[vdso]`: never reclaimed, unknown to page management.
    Kernel,
}

impl ObjectKind {
    fn of_name(name: &str) -> Self {
        if name.starts_with('[') {
            Self::Kernel
        } else if name.starts_with("zero_(deleted)") || name.starts_with("SYSV") {
            Self::Anonymous
        } else {
            Self::File
        }
    }
}

impl Header {
    /// Takes in one header line, without its line end.
    pub(super) fn line(&mut self, line: &str) -> Result<(), String> {
        let Some(text) = line.strip_prefix("# ") else { return Ok(()) };
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "vmtrace" if rest != "format 1" => Err(format!("\"{}\" is not a format known here", shown(rest))),
            "workload" => {
                self.workload = rest.split_once(':').map_or(rest, |(name, _)| name).to_owned();
                Ok(())
            }
            "cpus" => {
                self.cpus = Fields::new(rest).decimal::<u16>("number of CPUs")?.into();
                Ok(())
            }
            "totals" => self.totals_line(rest),
            "obj" => self.object_line(rest),
            "lost_records" if rest.trim() != "0" => {
                Err(format!("the recorder lost {} records, so the trace is not a whole run", shown(rest)))
            }
            _ => Ok(()),
        }
    }

    fn totals_line(&mut self, rest: &str) -> Result<(), String> {
        let mut totals = Totals::default();
        for pair in rest.split_whitespace() {
            let Some((name, number)) = pair.split_once('=') else {
                return Err(format!("\"{}\" in the totals is not name=number", shown(pair)));
            };
            let number = Fields::new(number).decimal("total")?;
            if name == "events" {
                totals.events = number;
            } else if let Some(kind) = OpKind::ALL.into_iter().find(|k| k.name() == name) {
                totals.by_kind[kind as usize] = number;
            } else {
                return Err(format!("\"{}\" in the totals is not a known event", shown(name)));
            }
        }
        self.totals = Some(totals);
        Ok(())
    }

    fn object_line(&mut self, rest: &str) -> Result<(), String> {
        let mut fields = rest.splitn(4, ' ');
        let number = Fields::new(fields.next().unwrap_or("")).decimal("object number")?;
        let (Some(_device), Some(_size)) = (fields.next(), fields.next()) else {
            return Err("an object line has too few fields".to_owned());
        };
        let name = fields.next().unwrap_or("").to_owned();
        let kind = ObjectKind::of_name(&name);
        match self.objects.insert(number, ObjectInfo { name, kind }) {
            None => Ok(()),
            Some(_) => Err(format!("object {number} is described twice")),
        }
    }
}
