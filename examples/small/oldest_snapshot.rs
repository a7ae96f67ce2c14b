//! A multi-version counter: readers work on snapshots while a writer replaces versions, and the garbage collector frees a
//! version as soon as no snapshot can reach it. Asking which is one load.
//!
//! `cargo run --release --example oldest_snapshot`

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use dcas_queue::safe::{ONE, Tracker};

const UPDATES: u64 = 20_000;

/// Versions by the number of the transaction that wrote them, and what keeps them alive.
struct Store {
    transactions: Tracker,
    versions: Mutex<BTreeMap<u64, u64>>,
}

impl Store {
    fn versions(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, u64>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a transaction with this number sees: the last version that is not newer.
    fn read(&self, snapshot: u64) -> Option<u64> {
        self.versions().range(..=snapshot).next_back().map(|(_, value)| *value)
    }

    /// Frees what no open transaction can see; returns how many versions that were.
    fn sweep(&self) -> usize {
        // Every transaction up to here has ended, so none can read below it.
        let oldest = self.transactions.watermark();
        let mut versions = self.versions();
        let Some((&newest_ended, _)) = versions.range(..=oldest).next_back() else { return 0 };
        let kept = versions.split_off(&newest_ended);
        std::mem::replace(&mut *versions, kept).len()
    }
}

fn main() -> Result<(), dcas_queue::Overflow> {
    let store = Store { transactions: Tracker::new(0), versions: Mutex::new(BTreeMap::from([(0, 0)])) };
    let over = AtomicBool::new(false);
    let (mut freed, mut most) = (0, 0);

    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| -> Result<(), dcas_queue::Overflow> {
                let mut slot = store.transactions.slot();
                while !over.load(Ordering::Acquire) {
                    let snapshot = slot.append(ONE)?;
                    let first = store.read(snapshot.start());
                    thread::yield_now();
                    let again = store.read(snapshot.start());
                    assert!(first.is_some() && first == again, "a snapshot does not change while it is open");
                }
                Ok(())
            });
        }
        let mut slot = store.transactions.slot();
        for value in 1..=UPDATES {
            // A commit takes its number under the store's lock, so whoever has a larger one finds the version there, and whoever
            // may still read the version before it has a smaller one.
            let mut versions = store.versions();
            let commit = slot.append(ONE)?;
            versions.insert(commit.end(), value);
            drop(commit);
            drop(versions);
            if value % 64 == 0 {
                most = most.max(store.versions().len());
                freed += store.sweep();
            }
        }
        over.store(true, Ordering::Release);
        Ok(())
    })?;

    freed += store.sweep();
    println!("{UPDATES} updates, {freed} versions freed on the way, {most} at most were kept");
    assert_eq!(store.read(u64::MAX), Some(UPDATES));
    assert_eq!(store.versions().len(), 1, "with all snapshots gone, one version is left");
    Ok(())
}
