//! A saved table's place in the tree, as two words of its page record.

use static_assertions::const_assert;

use super::Contents;
use crate::addr::Frame;
use crate::entry::FRAME_MASK;

/// Bits of an index into a directory.
pub(super) const KEY_BITS: u32 = 9;
const FRAME_BITS: u32 = FRAME_MASK.count_ones();
/// What of the right frame does not fit beside the left one.
const REST_BITS: u32 = 2 * FRAME_BITS - u64::BITS;
const CONTENTS_SHIFT: u32 = REST_BITS + KEY_BITS;
const_assert!(CONTENTS_SHIFT + 2 <= u32::BITS);

/// A saved table as a node of its directory's tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Index of the directory's entry that covers what the table covers.
    pub(super) index: usize,
    pub(super) contents: Contents,
    /// Roots of the two subtrees.
    pub(super) below: [Option<Frame>; 2],
}

impl Node {
    /// The words. From the lowest bit: left frame, right frame, index, contents; no frame is 0, and contents begin at 1, so
    /// that no count of entries is taken for a node.
    pub(super) fn pack(self) -> (u64, u32) {
        let [left, right] = self.below.map(|frame| frame.map_or(0, |f| f.0));
        let contents = match self.contents {
            Contents::Empty => 1,
            Contents::Uniform => 2,
            Contents::Accessed => 3,
        };
        let rest = (right >> (u64::BITS - FRAME_BITS)) as u32;
        let index = self.index as u32;
        (left | (right << FRAME_BITS), rest | (index << REST_BITS) | (contents << CONTENTS_SHIFT))
    }

    /// The node that these words are, if they are one.
    pub(super) fn unpack((links, rest): (u64, u32)) -> Option<Self> {
        let contents = match rest >> CONTENTS_SHIFT {
            1 => Contents::Empty,
            2 => Contents::Uniform,
            3 => Contents::Accessed,
            _ => return None,
        };
        let left = links & ((1 << FRAME_BITS) - 1);
        let high = u64::from(rest & ((1 << REST_BITS) - 1));
        let right = (links >> FRAME_BITS) | (high << (u64::BITS - FRAME_BITS));
        let index = (rest >> REST_BITS) as usize & ((1 << KEY_BITS) - 1);
        let below = [left, right].map(|frame| (frame != 0).then_some(Frame(frame)));
        Some(Self { index, contents, below })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_count_of_entries_is_no_node() {
        assert!((0..=512).all(|entries| Node::unpack((u64::MAX, entries)).is_none()));
    }

    proptest! {
        #[test]
        fn a_node_survives_its_words(
            index in 0..512usize,
            left in 0..1u64 << FRAME_BITS,
            right in 0..1u64 << FRAME_BITS,
            contents in prop::sample::select(&[Contents::Empty, Contents::Uniform, Contents::Accessed]),
        ) {
            let below = [left, right].map(|frame| (frame != 0).then_some(Frame(frame)));
            let node = Node { index, contents, below };
            prop_assert_eq!(Node::unpack(node.pack()), Some(node));
        }
    }
}
