//! Wrong usage and unusable input: one clear sentence, exit code 2, no panic.

use crate::common::{bundled_file, pmaplab, scratch};

fn refused(args: &[&str], says: &str) {
    let out = pmaplab(args);
    assert_eq!(out.code, Some(2), "{args:?}: {}{}", out.stdout, out.stderr);
    assert!(out.sentence().contains(says), "{args:?}: {}", out.stderr);
}

#[test]
fn wrong_arguments() {
    refused(&["--frobnicate"], "--frobnicate");
    refused(&["replay"], "required arguments");
    refused(&["replay", "x", "--cpus", "0"], "--cpus");
    refused(&["replay", "x", "--di", "magic"], "magic");
    refused(&["replay", "x", "--frames", "60 per cent"], "neither a number of frames nor a percentage");
    refused(&["replay", "x", "--frames", "0%"], "neither");
    refused(&["torture", "--mutation", "no-such-thing"], "no such mutation");
    refused(&["torture", "--cpu-model", "z80"], "no such CPU model");
    refused(&["torture", "--cpu-model", "athlon64", "--di", "lockfree"], "CMPXCHG16B");
    refused(&["dance"], "dance");
    refused(&["bench"], "required arguments");
    refused(&["bench", "magic"], "magic");
    refused(&["bench", "di", "--threads", "1,0"], "--threads");
    refused(&["bench", "di", "--mix", "wait-7"], "none of pairs, wait-1, wait-10 and wait-100");
    refused(&["bench", "queue", "--impl", "sharded"], "bench queue has no \"sharded\"");
    refused(&["bench", "di", "--runs", "0"], "--runs");
    refused(&["bench", "di", "--impl", "crossbeam-epoch", "--mix", "wait-1"], "nothing to measure");
}

#[test]
fn unusable_traces() {
    refused(&["replay", "/nonexistent/some.trace.gz"], "cannot be read");
    let good = std::fs::read(bundled_file()).unwrap();
    let cut = scratch("cut.trace.gz", &good[..good.len() / 2]);
    refused(&["replay", cut.to_str().unwrap()], "the file was cut off");
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 0xff;
    let damaged = scratch("damaged.trace.gz", &damaged);
    let out = pmaplab(&["replay", damaged.to_str().unwrap(), "--json"]);
    assert_eq!(out.code, Some(2), "{}", out.stderr);
    assert!(out.sentence().contains("damaged.trace.gz"));
    let other = scratch("other.trace.gz", b"this is text");
    refused(&["replay", other.to_str().unwrap()], "not a gzip file");
}

#[test]
fn too_little_memory() {
    let file = bundled_file();
    let file = file.to_str().unwrap();
    refused(&["replay", file, "--frames", "3"], "frames");
    refused(&["replay", file, "--frames", "24"], "are not enough for");
    refused(&["replay", file, "--frames", "24", "--cpus", "4", "--json"], "--frames");
    refused(&["replay", file, "--frames", "99999999999"], "frames");
}

#[test]
fn a_wrong_environment_is_told() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_pmaplab"))
        .arg("cpu")
        .env("GENCOUNT_DI", "sometimes")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("GENCOUNT_DI"));
}
