//! Reading numbers, one after the other.

use super::StreamError;

/// A place in a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    /// Reads from `at` to `end`, or to the end of the stream if that comes before.
    pub(super) fn new(bytes: &'a [u8], at: usize, end: usize) -> Self {
        Self { bytes, at, end: end.min(bytes.len()) }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.end
    }

    /// The error that `what` is wrong here.
    pub(super) fn wrong(&self, what: &'static str) -> StreamError {
        StreamError::Malformed { at: self.at, what }
    }

    pub(super) fn byte(&mut self) -> Result<u8, StreamError> {
        let byte = *self.bytes[..self.end].get(self.at).ok_or(self.wrong("a step is cut off"))?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32, StreamError> {
        self.fixed().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, StreamError> {
        self.fixed().map(u64::from_le_bytes)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], StreamError> {
        let bytes = self.bytes[..self.end].get(self.at..).and_then(|rest| rest.first_chunk());
        let bytes = *bytes.ok_or(StreamError::Short)?;
        self.at += N;
        Ok(bytes)
    }

    pub(super) fn varint(&mut self) -> Result<u64, StreamError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.wrong("a number has more than 64 bits"))
    }

    /// A number up to and with `limit`; `what` is wrong if it is larger.
    pub(super) fn up_to(&mut self, limit: u32, what: &'static str) -> Result<u32, StreamError> {
        let value = self.varint()?;
        u32::try_from(value).ok().filter(|value| *value <= limit).ok_or(self.wrong(what))
    }
}
