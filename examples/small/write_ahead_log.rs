//! A write-ahead log on a real file: several threads write their records at the same time and in any order, and a
//! transaction is acknowledged once *everything* up to its log sequence number is in the file.
//!
//! `cargo run --release --example write_ahead_log`

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;

use dcas_queue::safe::Tracker;

const WRITERS: u64 = 4;
const RECORDS: u64 = 1000;

/// A file that several threads write, and how far it is complete.
struct Log {
    file: File,
    /// Its watermark is the durable log sequence number, in bytes.
    written: Tracker,
}

impl Log {
    /// Writes one record; returns the log sequence number at which the record is durable.
    fn append(&self, record: &[u8]) -> io::Result<u64> {
        let length = NonZeroU64::new(record.len() as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a record is not empty"))?;
        let room = self.written.append(length).map_err(io::Error::other)?;
        let end = room.end();
        match self.file.write_all_at(record, room.start()) {
            Ok(()) => {
                room.complete();
                Ok(end)
            }
            Err(error) => {
                // There is a hole now, so nothing behind it may ever count as durable: the ticket stays open.
                std::mem::forget(room);
                Err(error)
            }
        }
    }
}

/// A file that goes away with the program.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn main() -> io::Result<()> {
    let path = Scratch(std::env::temp_dir().join(format!("write_ahead_log.{}", std::process::id())));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path.0)?;
    let log = Log { file, written: Tracker::new(0) };

    let early = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let log = &log;
                scope.spawn(move || -> io::Result<u64> {
                    let mut not_yet = 0;
                    for number in 0..RECORDS {
                        let record = format!("writer {writer}, record {number}\n");
                        let lsn = log.append(record.as_bytes())?;
                        // A server would put the transaction on a list here and acknowledge it when the watermark comes by.
                        not_yet += u64::from(!log.written.is_complete(lsn));
                    }
                    Ok(not_yet)
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("no panic")).sum::<io::Result<u64>>()
    })?;

    let mut text = String::new();
    (&log.file).read_to_string(&mut text)?;
    let durable = log.written.watermark();
    println!("{} records, {} bytes; durable up to {durable}", text.lines().count(), text.len());
    println!("{early} records were in the file before one that stands in front of them");
    assert_eq!((durable, text.lines().count() as u64), (text.len() as u64, WRITERS * RECORDS));
    Ok(())
}
