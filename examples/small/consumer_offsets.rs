//! A consumer hands the messages of a partition to workers that finish in any order, crashes, and starts again at the committed
//! offset: no message is lost, and few are handled twice.
//!
//! `cargo run --release --example consumer_offsets`

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use dcas_queue::safe::{ONE, Ticket, Tracker};

const MESSAGES: usize = 5000;
const WORKERS: usize = 3;
/// The message at which the first run dies.
const POISON: usize = 3210;

/// Consumes from `committed` on until the end or the poison; returns the offset that may be committed then.
fn consume(committed: u64, poisoned: bool, handled: &[AtomicU32]) -> Result<u64, dcas_queue::Overflow> {
    let partition = Tracker::new(committed);
    thread::scope(|scope| {
        let workers: Vec<mpsc::Sender<Ticket<'_>>> = (0..WORKERS)
            .map(|_| {
                let (sender, messages) = mpsc::channel::<Ticket<'_>>();
                scope.spawn(move || {
                    for offset in messages {
                        let message = offset.start() as usize;
                        if poisoned && message == POISON {
                            // The worker dies with this message unhandled: its ticket must stay open.
                            std::mem::forget(offset);
                            return;
                        }
                        // ORD: Relaxed: a count, read after the threads were joined.
                        handled[message].fetch_add(1, Ordering::Relaxed);
                        offset.complete();
                    }
                });
                sender
            })
            .collect();
        for message in committed as usize..MESSAGES {
            let offset = partition.append(ONE)?;
            // A worker that died takes nothing any more; the ticket comes back with the error, and is not handled either.
            if let Err(mpsc::SendError(offset)) = workers[message % WORKERS].send(offset) {
                std::mem::forget(offset);
            }
        }
        Ok(())
    })?;
    Ok(partition.watermark())
}

fn main() -> Result<(), dcas_queue::Overflow> {
    let handled: Vec<AtomicU32> = (0..MESSAGES).map(|_| AtomicU32::new(0)).collect();
    let committed = consume(0, true, &handled)?;
    println!("the first run dies; it may commit offset {committed}");
    assert_eq!(committed, POISON as u64, "everything before the poison, and nothing behind it");

    let committed = consume(committed, false, &handled)?;
    // ORD: Relaxed: the threads that counted were joined.
    let times = |n: u32| handled.iter().filter(|count| count.load(Ordering::Relaxed) == n).count();
    println!("the second run commits {committed}: {} messages handled once, {} twice", times(1), times(2));
    assert_eq!((committed, times(0)), (MESSAGES as u64, 0), "no message was lost");
    Ok(())
}
