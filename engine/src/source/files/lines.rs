//! Cuts text that comes in pieces into records. Pure.

use memchr::memchr;

use crate::source::{BatchLimit, Records, Span};

/// A longer line is not waited for.
pub(super) const LINE_BYTES_MAX: usize = 64 << 20;

/// Text whose lines have not all been given out.
#[derive(Default)]
pub(super) struct Lines {
    text: Vec<u8>,
    /// Where the next line begins.
    next: usize,
    /// There is no line's end between `next` and here.
    searched: usize,
}

impl Lines {
    pub(super) fn push(&mut self, text: &[u8]) {
        self.text.drain(..self.next);
        self.searched -= self.next;
        self.next = 0;
        self.text.extend_from_slice(text);
    }

    /// A file has ended, and with it its last line.
    pub(super) fn end_file(&mut self) {
        if self.next < self.text.len() && self.text.last() != Some(&b'\n') {
            self.text.push(b'\n');
        }
    }

    /// The bytes of a line that has not ended yet, once all others were given out.
    pub(super) fn unfinished(&self) -> usize {
        self.text.len() - self.next
    }

    /// Adds the next records to those that are there, of which there are none.
    pub(super) fn take(&mut self, limit: BatchLimit, records: &mut Records) {
        let start = self.next;
        while records.spans.len() < limit.rows && self.next - start < limit.bytes {
            let begin = self.next;
            match self.line() {
                Some(0) => {}
                Some(len) => records.spans.push(Span { start: (begin - start) as u32, len: len as u32 }),
                None => break,
            }
        }
        if !records.spans.is_empty() {
            records.bytes.extend_from_slice(&self.text[start..self.next]);
        }
    }

    /// Passes over up to `count` records; says over how many.
    pub(super) fn skip(&mut self, count: u64) -> u64 {
        let mut skipped = 0;
        while skipped < count
            && let Some(len) = self.line()
        {
            skipped += u64::from(len > 0);
        }
        skipped
    }

    /// Goes past the next line if all of it is there; its length without its end, 0 if nothing but white space is in
    /// it.
    fn line(&mut self) -> Option<usize> {
        let Some(found) = memchr(b'\n', &self.text[self.searched..]) else {
            self.searched = self.text.len();
            return None;
        };
        let end = self.searched + found;
        let line = &self.text[self.next..end];
        let len = line.len() - usize::from(line.ends_with(b"\r"));
        let blank = line.iter().all(u8::is_ascii_whitespace);
        self.next = end + 1;
        self.searched = self.next;
        Some(if blank { 0 } else { len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_some(lines: &mut Lines, limit: BatchLimit) -> Records {
        let mut records = Records::default();
        lines.take(limit, &mut records);
        records
    }

    /// The records of a text that comes in pieces of `piece` bytes and is taken by `rows`, joined by commas.
    fn cut(text: &str, piece: usize, rows: usize) -> String {
        let (mut lines, mut values) = (Lines::default(), Vec::new());
        let mut take = |lines: &mut Lines| {
            loop {
                let records = take_some(lines, BatchLimit { rows, bytes: 1000 });
                let range = 0..records.spans.len();
                if range.is_empty() {
                    break;
                }
                values.extend(range.map(|i| String::from_utf8(records.value(i).unwrap().to_vec()).unwrap()));
            }
        };
        for piece in text.as_bytes().chunks(piece) {
            lines.push(piece);
            take(&mut lines);
        }
        lines.end_file();
        take(&mut lines);
        assert_eq!(lines.unfinished(), 0);
        values.join(",")
    }

    #[test]
    fn lines_are_cut_alike_however_they_come() {
        for (text, expected) in [
            ("", ""),
            ("\n\n", ""),
            ("a", "a"),
            ("a\nbb\nccc", "a,bb,ccc"),
            ("a\r\nbb\r\n", "a,bb"),
            (" \t\r\n{\"x\": 1} \n\n\r\n  y", "{\"x\": 1} ,  y"),
            ("a\rb\n", "a\rb"),
        ] {
            for piece in 1..=text.len().max(1) {
                for rows in [1, 2, 100] {
                    assert_eq!(cut(text, piece, rows), expected, "{text:?} by {piece}, {rows} rows");
                }
            }
        }
    }

    #[test]
    fn skipping_passes_records_and_not_blanks() {
        let mut lines = Lines::default();
        lines.push(b"a\n\nb\n \nc\nd");
        assert_eq!(lines.skip(2), 2);
        let rest = take_some(&mut lines, BatchLimit { rows: 10, bytes: 10 });
        assert_eq!((rest.spans.len(), rest.value(0)), (1, Some(&b"c"[..])));
        assert_eq!((lines.skip(5), lines.unfinished()), (0, 1));
        lines.end_file();
        assert_eq!(lines.skip(5), 1);
    }

    #[test]
    fn a_batch_stops_at_its_bytes() {
        let mut lines = Lines::default();
        lines.push(b"aaaa\nbbbb\ncccc\n");
        assert_eq!(take_some(&mut lines, BatchLimit { rows: 10, bytes: 6 }).spans.len(), 2);
        assert_eq!(take_some(&mut lines, BatchLimit { rows: 10, bytes: 6 }).spans.len(), 1);
    }
}
