//! Fields of a line, with an error that says which one is wrong and why.

use pmap::{PAGE_SIZE, Protection, VirtAddr, VirtRange};

/// The space-separated fields of one line.
pub(super) struct Fields<'a> {
    rest: std::str::Split<'a, char>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(line: &'a str) -> Self {
        Self { rest: line.split(' ') }
    }

    /// The next field; `what` names it in the error.
    pub(super) fn word(&mut self, what: &str) -> Result<&'a str, String> {
        match self.rest.next() {
            Some(word) if !word.is_empty() => Ok(word),
            _ => Err(format!("the {what} is missing")),
        }
    }

    /// A decimal number that fits `T`.
    pub(super) fn decimal<T: TryFrom<u64>>(&mut self, what: &str) -> Result<T, String> {
        let word = self.word(what)?;
        let number: Option<u64> =
            word.bytes().all(|b| b.is_ascii_digit()).then(|| word.parse().ok()).flatten();
        number
            .and_then(|n| T::try_from(n).ok())
            .ok_or_else(|| format!("the {what} \"{}\" is not a decimal number in range", shown(word)))
    }

    /// A hexadecimal number without prefix.
    pub(super) fn hex(&mut self, what: &str) -> Result<u64, String> {
        let word = self.word(what)?;
        let digits = word.bytes().all(|b| b.is_ascii_hexdigit());
        digits
            .then(|| u64::from_str_radix(word, 16).ok())
            .flatten()
            .ok_or_else(|| format!("the {what} \"{}\" is not a hexadecimal number", shown(word)))
    }

    /// An address in the user half.
    pub(super) fn address(&mut self) -> Result<VirtAddr, String> {
        let va = VirtAddr(self.hex("address")?);
        if va.is_user() { Ok(va) } else { Err(format!("the address {va} is not in the user half")) }
    }

    /// A page-aligned start and a length in bytes; `may_be_empty` allows length 0.
    pub(super) fn range(&mut self, may_be_empty: bool) -> Result<VirtRange, String> {
        let start = self.address()?;
        let bytes = self.hex("length")?;
        if !start.is_page_aligned() || bytes % PAGE_SIZE != 0 {
            return Err(format!("{start} + {bytes:#x} bytes does not consist of whole pages"));
        }
        if bytes == 0 && !may_be_empty {
            return Err("the range is empty".to_owned());
        }
        start
            .0
            .checked_add(bytes)
            .and_then(|end| VirtRange::new(start, VirtAddr(end)))
            .filter(|range| range.is_user())
            .ok_or_else(|| format!("{start} + {bytes:#x} bytes leaves the user half"))
    }

    /// `PROT_*` bits: 1 read, 2 write, 4 execute.
    pub(super) fn protection(&mut self) -> Result<Protection, String> {
        let bits: u8 = self.decimal("protection")?;
        Protection::from_bits(bits).ok_or_else(|| format!("the protection {bits} has unknown bits"))
    }

    /// Nothing may follow.
    pub(super) fn end(mut self) -> Result<(), String> {
        match self.rest.next() {
            None => Ok(()),
            Some(word) => Err(format!("\"{}\" follows the last field", shown(word))),
        }
    }
}

/// A word shortened and made printable for a message.
pub(super) fn shown(word: &str) -> String {
    word.chars().take(24).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_fields_are_read() {
        let mut f = Fields::new("12 7f00 1000 2000 5");
        assert_eq!(f.decimal::<u32>("tid"), Ok(12));
        assert_eq!(f.address(), Ok(VirtAddr(0x7f00)));
        assert_eq!(f.range(false).map(|r| r.pages()), Ok(2));
        assert_eq!(f.protection(), Ok(Protection::READ | Protection::EXECUTE));
        assert!(f.end().is_ok());
    }

    #[test]
    fn bad_fields_are_refused() {
        for bad in
            ["1001 1000", "1000 fff", "1000 0", "7fffffffe000 3000", "ffffffffffffe000 1000", "+10 1000", "x"]
        {
            assert!(Fields::new(bad).range(false).is_err(), "{bad}");
        }
        assert!(Fields::new("300").decimal::<u8>("x").is_err());
        assert!(Fields::new("-1").decimal::<u8>("x").is_err());
        assert!(Fields::new("8").protection().is_err());
        assert!(Fields::new("").word("x").is_err());
        assert!(Fields::new("1 2").end().is_err());
    }
}
