//! Running the built program.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// What a run of the program gave.
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The JSON object on the last line of standard output, which is the only line there.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "one line only: {}", self.stdout);
        serde_json::from_str(self.stdout.trim_end()).expect("the line is JSON")
    }

    /// The one sentence of a refusal.
    pub(crate) fn sentence(&self) -> &str {
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let last = self.stderr.lines().last().unwrap_or("");
        assert!(last.starts_with("pmaplab: "), "{}", self.stderr);
        assert!(self.stdout.is_empty(), "{}", self.stdout);
        last
    }
}

/// Runs the program.
pub(crate) fn pmaplab(args: &[&str]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pmaplab"));
    command.args(args).env_remove("GENCOUNT_DI").env("RUST_BACKTRACE", "0");
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("the program writes text");
    Outcome { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// The trace in the source tree.
pub(crate) fn bundled_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("traces/parallel-compile.trace.gz")
}

/// A file in a directory of the test's own.
pub(crate) fn scratch(name: &str, bytes: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).expect("the test may write to its own directory");
    path
}
