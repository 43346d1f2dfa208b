//! The values of records as they came, before anyone has read them.

/// Record values, end to end in one buffer.
#[derive(Debug, Default, Clone)]
pub struct Records {
    pub bytes: Vec<u8>,
    pub spans: Vec<Span>,
}

/// Where one record's value lies in [`Records::bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub len: u32,
}

impl Span {
    /// A record without a value, which Kafka calls a tombstone.
    pub const TOMBSTONE: Span = Span { start: 0, len: u32::MAX };

    pub fn is_tombstone(self) -> bool {
        self.len == u32::MAX
    }
}

impl Records {
    pub fn push(&mut self, value: Option<&[u8]>) {
        let span = match value {
            None => Span::TOMBSTONE,
            Some(value) => {
                let start = self.bytes.len() as u32;
                self.bytes.extend_from_slice(value);
                assert!(u32::try_from(self.bytes.len()).is_ok(), "a batch is cut long before 4 GiB");
                Span { start, len: value.len() as u32 }
            }
        };
        self.spans.push(span);
    }

    /// Cuts off the records from `index` on.
    pub fn split_off(&mut self, index: usize) -> Records {
        let mut spans = self.spans.split_off(index);
        let first = spans.iter().find(|span| !span.is_tombstone());
        let start = first.map_or(self.bytes.len(), |span| span.start as usize);
        let bytes = self.bytes.split_off(start);
        for span in spans.iter_mut().filter(|span| !span.is_tombstone()) {
            span.start -= start as u32;
        }
        Records { bytes, spans }
    }

    pub fn value(&self, index: usize) -> Option<&[u8]> {
        let span = self.spans[index];
        (!span.is_tombstone()).then(|| &self.bytes[span.start as usize..(span.start + span.len) as usize])
    }
}
