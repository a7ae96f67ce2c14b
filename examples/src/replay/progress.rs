//! Telling the user how far it is: a bar on a terminal, a line now and then otherwise. All on stderr.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::ledger::Ledger;

/// Whether and how progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    /// A bar on a terminal, lines otherwise.
    Auto,
    /// Nothing.
    Off,
}

/// Time between looks at the ledger.
const LOOK: Duration = Duration::from_millis(100);
/// Time between plain lines.
const LINE: Duration = Duration::from_secs(5);

/// Shows progress until `is_over`. Whoever makes it so unparks this thread.
pub(super) fn show(display: Display, ledger: &Ledger, total: u64, is_over: &dyn Fn() -> bool) {
    if display == Display::Off {
        return;
    }
    let bar = std::io::stderr().is_terminal().then(|| bar(total));
    let mut line_due = Instant::now() + LINE;
    while !is_over() {
        std::thread::park_timeout(LOOK);
        let done = ledger.events();
        if let Some(bar) = &bar {
            bar.set_position(done);
        } else if Instant::now() >= line_due && !is_over() {
            eprintln!("pmaplab: {done} of {total} events");
            line_due += LINE;
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn bar(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} events, {eta} left");
    let bar = ProgressBar::new(total);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}
