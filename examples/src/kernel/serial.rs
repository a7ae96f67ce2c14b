//! What the guest says on its serial line.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// More than this without a line end is shown as it is.
const LONGEST_LINE: usize = 1 << 20;

/// Reads a file that somebody else appends to, line by line.
pub(super) struct Tail {
    file: File,
    /// The start of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl Tail {
    /// Makes the file at `path`, empty, and reads it from there on.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        File::create(path)?;
        Ok(Self { file: File::open(path)?, partial: Vec::new() })
    }

    /// Hands out the lines that have come since the last time.
    pub(super) fn lines(&mut self, mut each: impl FnMut(&str)) -> io::Result<()> {
        self.file.read_to_end(&mut self.partial)?;
        let mut start = 0;
        while let Some(length) = self.partial[start..].iter().position(|&b| b == b'\n') {
            each(&text(&self.partial[start..start + length]));
            start += length + 1;
        }
        self.partial.drain(..start);
        if self.partial.len() > LONGEST_LINE {
            each(&text(&std::mem::take(&mut self.partial)));
        }
        Ok(())
    }

    /// Hands out the rest, even without a line end.
    pub(super) fn finish(mut self, mut each: impl FnMut(&str)) -> io::Result<()> {
        self.lines(&mut each)?;
        if !self.partial.is_empty() {
            each(&text(&self.partial));
        }
        Ok(())
    }
}

/// A line as text, without the carriage return and without what would move a terminal's cursor.
fn text(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.chars().filter(|c| *c == '\t' || !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_come_whole_and_the_rest_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serial");
        let mut tail = Tail::create(&path).unwrap();
        let mut guest = File::options().append(true).open(&path).unwrap();
        let mut seen = Vec::new();
        guest.write_all(b"one\r\ntw").unwrap();
        tail.lines(|line| seen.push(line.to_owned())).unwrap();
        assert_eq!(seen, ["one"]);
        guest.write_all(b"o\n\x1b[2Jthree\nfour \xff").unwrap();
        tail.lines(|line| seen.push(line.to_owned())).unwrap();
        assert_eq!(seen, ["one", "two", "[2Jthree"]);
        tail.finish(|line| seen.push(line.to_owned())).unwrap();
        assert_eq!(seen[3], "four \u{fffd}");
    }
}
