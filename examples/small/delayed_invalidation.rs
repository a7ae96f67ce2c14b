//! Delayed invalidation outside a kernel: threads cache where a block lives, a remover takes a block's last reference away *before* it has
//! told all caches, and whoever wants to reuse the block waits for exactly those removers.
//!
//! `cargo run --release --example delayed_invalidation`

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use gencount::{Domain, GenerationWord, Hosted, dispatch};

const BLOCKS: usize = 8;
const ROUNDS: usize = 20_000;

/// A block of memory that caches may still point to after it was removed.
struct Block {
    /// Whether the block is in use. Marks are made under it.
    used: Mutex<bool>,
    /// How long whoever reuses the block must wait.
    removed_by: GenerationWord,
    /// How many caches still point here: must be 0 when the block is reused.
    cached: AtomicU64,
}

fn main() -> Result<(), dispatch::Error> {
    let domain = Arc::new(Domain::with_choice(Hosted)?);
    println!("this processor gets: {}", dispatch::init()?);
    let blocks: Vec<Block> = (0..BLOCKS)
        .map(|_| Block {
            used: Mutex::new(false),
            removed_by: GenerationWord::new(),
            cached: AtomicU64::new(0),
        })
        .collect();

    thread::scope(|scope| {
        for first in 0..2 {
            let (domain, blocks) = (&domain, &blocks);
            // Each uses blocks and removes those of the other.
            scope.spawn(move || {
                let me = domain.join();
                for round in 0..ROUNDS {
                    let block = &blocks[(round + first) % BLOCKS];
                    let free = !*block.used.lock().unwrap_or_else(PoisonError::into_inner);
                    if free {
                        // Nobody uses it; but somebody may not have told the caches yet.
                        me.wait(&block.removed_by);
                        let mut used = block.used.lock().unwrap_or_else(PoisonError::into_inner);
                        if !*used && domain.is_complete(&block.removed_by) {
                            // ORD: Acquire pairs with the Release in the remover: that is the point of the wait.
                            assert_eq!(
                                block.cached.load(Ordering::Acquire),
                                0,
                                "a cache still points to a reused block"
                            );
                            *used = true;
                        }
                    } else {
                        let section = me.begin();
                        {
                            let mut used = block.used.lock().unwrap_or_else(PoisonError::into_inner);
                            if *used {
                                // ORD: Relaxed: the block is used, and nobody looks before the wait is over.
                                block.cached.fetch_add(1, Ordering::Relaxed);
                                section.mark(&block.removed_by);
                                *used = false;
                            } else {
                                continue;
                            }
                        }
                        // From here on others see an unused block, while the caches are told one by one.
                        thread::yield_now();
                        // ORD: Release pairs with the Acquire load of whoever reuses the block.
                        block.cached.fetch_sub(1, Ordering::Release);
                        drop(section);
                    }
                }
            });
        }
    });
    let counters = domain.counters();
    println!(
        "{} sections, {} waits, of which {} found something to wait for and {} parked",
        counters.di_blocks, counters.di_wait_calls, counters.invl_wait, counters.invl_wait_slow
    );
    Ok(())
}
