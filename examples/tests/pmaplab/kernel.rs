//! `pmaplab kernel` with an emulator that is a script: what it does with an emulator's output, exit code, absence and refusal to
//! end. The kernel itself is booted by `.ci/kernel`.

#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::Outcome;

const GOOD: &str = r#"{"program":"selftest","ok":true,"cpus":4,"checks":3,"errors":[]}"#;
const BAD: &str =
    r#"{"program":"selftest","ok":false,"cpus":4,"checks":3,"errors":["CPU 2 read a stale page"]}"#;

/// Notes its arguments and its process, says what it is told to on the serial line, and ends as it is told.
const EMULATOR: &str = r#"#!/bin/sh
echo "$*" >"$FAKE/arguments"
while [ $# -gt 0 ]; do
    case $1 in -serial) serial=${2#file:} ;; esac
    shift
done
cat "$FAKE/says" >>"$serial"
echo $$ >"$FAKE/started"
mv "$FAKE/started" "$FAKE/pid"
[ -z "$FAKE_HANGS" ] || exec sleep 1000
exit "$FAKE_EXIT"
"#;

/// A folder with the emulator, something to boot, and what the run leaves behind.
struct Fake {
    folder: PathBuf,
}

impl Fake {
    fn new(name: &str, says: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("kernel").join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("tmp")).unwrap();
        for (file, contents) in
            [("kernel", "no ELF"), ("init", "no ELF"), ("says", says), ("qemu-system-x86_64", EMULATOR)]
        {
            fs::write(folder.join(file), contents).unwrap();
        }
        fs::set_permissions(folder.join("qemu-system-x86_64"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pmaplab"));
        command.arg("kernel").arg("--built").arg(&self.folder).args(args);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.folder.display()));
        command.env("FAKE", &self.folder).env("TMPDIR", self.folder.join("tmp"));
        command.env("FAKE_HANGS", "").env("FAKE_EXIT", "0").env("RUST_BACKTRACE", "0");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, exit: i32, args: &[&str]) -> Outcome {
        outcome(self.command(args).env("FAKE_EXIT", exit.to_string()).spawn().unwrap())
    }

    /// Starts an emulator that does not end, and waits until it runs.
    fn hang(&self, args: &[&str]) -> (Child, PathBuf) {
        let child = self.command(args).env("FAKE_HANGS", "yes").spawn().unwrap();
        let pid = self.folder.join("pid");
        assert!(soon(|| pid.exists()), "the emulator does not start");
        let process = Path::new("/proc").join(fs::read_to_string(pid).unwrap().trim());
        (child, process)
    }

    fn arguments(&self) -> String {
        fs::read_to_string(self.folder.join("arguments")).unwrap()
    }

    fn leftovers(&self) -> usize {
        fs::read_dir(self.folder.join("tmp")).unwrap().count()
    }
}

fn outcome(child: Child) -> Outcome {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn soon(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn signal(name: &str, child: &Child) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn what_the_guest_says_is_shown_and_its_report_judged() {
    let fake = Fake::new("good", &format!("CPU 1 is up\n{GOOD}\n"));
    let out = fake.run(33, &["--smp", "4", "--cpu", "no-cx16", "--seconds", "3", "--memory", "256"]);
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    assert!(out.stdout.starts_with("CPU 1 is up\nOK: every check held (3, "), "{}", out.stdout);
    let arguments = fake.arguments();
    for part in ["-smp 4", "-cpu qemu64,-cx16", "-m 256M", "tcg,thread=multi", "program=selftest seconds=3"] {
        assert!(arguments.contains(part), "{part}: {arguments}");
    }
    assert_eq!(fake.leftovers(), 0);
}

#[test]
fn machines_get_one_line() {
    let fake = Fake::new("json", &format!("CPU 1 is up\n{BAD}\n"));
    let out = fake.run(35, &["--json", "--accel", "deterministic"]);
    assert_eq!(out.code, Some(1), "{}", out.stderr);
    let report = out.json();
    assert_eq!((&report["ok"], &report["errors"][0]), (&false.into(), &"CPU 2 read a stale page".into()));
    assert_eq!(
        (&report["host"]["emulator"], &report["host"]["accel"]),
        (&"qemu".into(), &"deterministic".into())
    );
    assert!(
        out.stderr.contains("CPU 1 is up\n") && out.stderr.contains("FAILED: CPU 2 read"),
        "{}",
        out.stderr
    );
    assert!(fake.arguments().contains("-icount shift=1,sleep=off"));
}

#[test]
fn a_report_must_agree_with_the_exit_code() {
    for (name, exit, says) in [
        ("panic", 39, ""),
        ("reset", 0, GOOD),
        ("silent", 33, ""),
        ("denies", 35, GOOD),
        ("cut", 33, "{\"ok\":"),
    ] {
        let fake = Fake::new(name, says);
        let out = fake.run(exit, &["--json"]);
        assert_eq!((out.code, &out.json()["ok"]), (Some(1), &false.into()), "{name}: {}", out.stderr);
    }
}

#[test]
fn what_the_guest_refuses_is_wrong_usage() {
    let fake = Fake::new("refuses", r#"{"ok":false,"usage":"there is no program `dance`"}"#);
    let out = fake.run(37, &["--program", "dance"]);
    assert_eq!(out.code, Some(2), "{}", out.stderr);
    assert!(out.sentence().contains("there is no program `dance`"));
    let out = Fake::new("starts-not", "").run(1, &[]);
    assert_eq!(out.code, Some(2), "{}", out.stderr);
    assert!(out.sentence().contains("QEMU does not start"));
}

#[test]
fn a_missing_emulator_is_named_with_its_package() {
    let fake = Fake::new("missing", "");
    for (emulator, packages) in [
        ("qemu", &["apt-get install qemu-system-x86"][..]),
        ("bochs", &["bochs-term", "grub-common", "xorriso", "mtools"]),
    ] {
        let mut command = fake.command(&["--emulator", emulator]);
        let out = outcome(command.env("PATH", "").spawn().unwrap());
        assert_eq!(out.code, Some(2), "{}", out.stderr);
        assert!(packages.iter().all(|package| out.sentence().contains(package)), "{}", out.stderr);
    }
}

#[test]
fn nothing_to_boot_is_told() {
    let fake = Fake::new("nothing", "");
    fs::remove_file(fake.folder.join("kernel")).unwrap();
    let out = fake.run(33, &[]);
    assert_eq!(out.code, Some(2), "{}", out.stderr);
    assert!(out.sentence().contains("no file \"kernel\""));
}

#[test]
fn an_emulator_that_does_not_end_is_stopped() {
    let fake = Fake::new("hangs", "CPU 1 is up\nand then");
    let (child, process) = fake.hang(&["--time-limit", "1", "--json"]);
    let out = outcome(child);
    assert_eq!(out.code, Some(1), "{}", out.stderr);
    assert!(out.json()["errors"][0].as_str().unwrap().contains("within 1 s"));
    assert!(out.stderr.contains("and then\n"), "also a line without an end: {}", out.stderr);
    assert!(!process.exists(), "killed and reaped");
    assert_eq!(fake.leftovers(), 0);
}

#[test]
fn an_interrupt_stops_the_emulator() {
    for name in ["INT", "TERM"] {
        let fake = Fake::new(name, "CPU 1 is up\n");
        let (child, process) = fake.hang(&[]);
        signal(name, &child);
        let out = outcome(child);
        assert_eq!(out.code, Some(1), "{}", out.stderr);
        assert!(out.stderr.ends_with("pmaplab: interrupted\n"), "{}", out.stderr);
        assert!(!process.exists(), "killed and reaped");
        assert_eq!(fake.leftovers(), 0);
    }
}

#[test]
fn no_emulator_outlives_a_killed_pmaplab() {
    let fake = Fake::new("killed", "CPU 1 is up\n");
    let (mut child, process) = fake.hang(&[]);
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = || match fs::read_to_string(process.join("stat")) {
        // Nobody may reap it for a while, but then it runs no more.
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')),
        Err(_) => true,
    };
    assert!(soon(gone), "the emulator is still there");
}
