//! Zeroing and copying pages, against plain vectors of bytes.

mod support;

use std::sync::atomic::Ordering;

use pmap::sim::SimMachine;
use pmap::{AreaError, Frame, FrameError, System};
use proptest::prelude::*;
use support::{on_cpu, small};

const PAGE: usize = 4096;

fn bytes(system: &System<SimMachine>, frames: &[Frame]) -> Vec<u8> {
    let words = frames.iter().flat_map(|frame| system.machine().frame_words(*frame));
    words.flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect()
}

/// Frames with contents that tell every byte from its neighbours.
fn pages(system: &System<SimMachine>, count: usize, salt: u64) -> Vec<Frame> {
    let mut next = salt;
    let mut page = || {
        let frame = system.machine().allocate_data_frame(true).expect("a frame");
        for word in system.machine().frame_words(frame) {
            next = next.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(salt);
            word.store(next, Ordering::Relaxed);
        }
        frame
    };
    (0..count).map(|_| page()).collect()
}

fn give_back(system: &System<SimMachine>, frames: &[Frame]) {
    frames.iter().for_each(|frame| system.machine().free_data_frame(*frame));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_run_of_bytes_is_copied_and_no_other(
        from_at in 0usize..2 * PAGE, to_at in 0usize..2 * PAGE, size in 0usize..2 * PAGE,
    ) {
        on_cpu(small(), |system| {
            let (from, to) = (pages(system, 4, 3), pages(system, 4, 5));
            let source = bytes(system, &from);
            let mut expected = bytes(system, &to);
            expected[to_at..to_at + size].copy_from_slice(&source[from_at..from_at + size]);
            let offsets = (from_at as u64, to_at as u64);
            system.copy_pages(&from, offsets.0, &to, offsets.1, size as u64).unwrap();
            assert!(bytes(system, &to) == expected, "{offsets:?} {size}");
            assert!(bytes(system, &from) == source, "the source is left alone");
            give_back(system, &from);
            give_back(system, &to);
        });
    }

    #[test]
    fn any_area_is_zeroed_and_nothing_else(at in 0usize..=PAGE, size in 0usize..=PAGE) {
        on_cpu(small(), |system| {
            let page = pages(system, 1, 7);
            let mut expected = bytes(system, &page);
            let result = system.zero_page_area(page[0], at as u64, size as u64);
            if at + size <= PAGE {
                result.unwrap();
                expected[at..at + size].fill(0);
            } else {
                assert_eq!(result, Err(AreaError::Beyond));
            }
            assert!(bytes(system, &page) == expected, "{at} {size}");
            give_back(system, &page);
        });
    }
}

#[test]
fn whole_pages_are_zeroed_and_copied() {
    on_cpu(small(), |system| {
        let pages = pages(system, 2, 9);
        system.copy_page(pages[0], pages[1]).unwrap();
        assert!(bytes(system, &pages[..1]) == bytes(system, &pages[1..]));
        system.zero_page(pages[0]).unwrap();
        assert!(bytes(system, &pages[..1]).iter().all(|byte| *byte == 0));
        give_back(system, &pages);
    });
}

#[test]
fn areas_and_frames_that_are_not_there_are_refused() {
    on_cpu(small(), |system| {
        let space = system.create().unwrap();
        let page = pages(system, 1, 11);
        let before = bytes(system, &page);
        let beyond = Frame(1 << 30);
        assert_eq!(system.zero_page(space.root()), Err(FrameError::PmapsOwn));
        assert_eq!(system.zero_page(beyond), Err(FrameError::NotMemory));
        assert_eq!(system.copy_page(page[0], space.root()), Err(FrameError::PmapsOwn));
        assert_eq!(system.copy_page(beyond, page[0]), Err(FrameError::NotMemory));
        for (from_at, to_at, size) in
            [(1, 0, 4096), (0, 1, 4096), (0, 0, 4097), (u64::MAX, 0, 1), (0, 9, u64::MAX)]
        {
            assert_eq!(system.copy_pages(&page, from_at, &page, to_at, size), Err(AreaError::Beyond));
        }
        assert_eq!(system.zero_page_area(page[0], u64::MAX, 2), Err(AreaError::Beyond));
        let mixed = [page[0], beyond];
        let refused = system.copy_pages(&mixed, 0, &mixed, 0, 16);
        assert_eq!(refused, Err(AreaError::Frame(FrameError::NotMemory)), "and nothing has been copied");
        assert!(bytes(system, &page) == before);
        give_back(system, &page);
        space.destroy().unwrap();
    });
}
