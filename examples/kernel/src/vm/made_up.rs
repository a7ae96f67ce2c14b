//! Files without bytes: what is in them follows from where it is.

/// Word `index` of page `page` of made-up file `file`: different everywhere.
#[must_use]
pub(crate) const fn made_up_word(file: u32, page: u64, index: u64) -> u64 {
    let place = ((file as u64) << 44) ^ (page << 9) ^ index;
    let mixed = (place ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
